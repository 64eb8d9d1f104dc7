"""Encoders behind an embeddings API, and the probe that shows whether the vendor has changed the model.

A fixed set of texts is encoded with the first vectors and kept beside them; reopening encodes them again and compares.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32

from genekb.core.errors import NotAvailable, StoreCorrupt
from genekb.encoders.api.client import ApiConfig, cut_by_estimate, embed
from genekb.encoders.base import EncodedTexts, EncoderSpec, check_texts
from genekb.files.atomic import canonical_json, write_text
from genekb.files.limits import read_json

PROBE: Final = "probe.json"
MIN_COSINE: Final = 0.999
_DECIMALS: Final = 6
# Probes that are stored were made from these texts: another set would make every one of them useless.
PROBE_TEXTS: Final = (
    "Insulin lowers the glucose of the blood.",
    "Glucagon raises the glucose of the blood.",
    "Subunit of the receptor by which T cells see antigen.",
    "Surface protein of B cells, bound by therapeutic antibodies.",
    "Enzyme that cuts the cell walls of bacteria.",
    "Carrier of oxygen in red blood cells.",
    "Transcription factor that keeps stem cells undivided in fate.",
    "Tumour suppressor that stops the cell cycle after DNA damage.",
    "Kinase of the growth factor pathway, often mutated in cancer.",
    "Channel that lets sodium into nerve cells.",
    "Transporter that takes glutamate back from the synapse.",
    "Filament protein of astrocytes.",
    "Myelin protein of oligodendrocytes.",
    "Collagen of skin, bone and tendon.",
    "Motor protein of heart muscle.",
    "Protein of the large subunit of the ribosome.",
    "Subunit of the respiratory chain, encoded by mitochondrial DNA.",
    "Olfactory receptor, coupled to a G protein.",
    "Long non-coding RNA that silences one X chromosome.",
    "Uncharacterised open reading frame on chromosome 7.",
)


class ApiEncoder:
    """A model behind an embeddings API; equal texts get nearly, not always exactly, equal vectors."""

    def __init__(self, *, spec: EncoderSpec, config: ApiConfig, probe: str) -> None:
        self.spec = spec
        self._config = config
        self._probe = probe

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> EncodedTexts:
        """Encode texts as ``Encoder.encode`` says; tokens are estimated, one for every three bytes."""
        check_texts(texts)
        cuts = [cut_by_estimate(text, limit=self.spec.max_tokens) for text in texts]
        vectors = embed(
            [cut.text for cut in cuts],
            model_id=self.spec.model_id,
            dim=self.spec.dim,
            config=self._config,
            progress=progress,
        )
        return EncodedTexts(
            vectors=vectors,
            n_tokens=np.array([cut.n_tokens for cut in cuts], dtype=np.int32),
            n_tokens_cut=np.array([cut.n_tokens_cut for cut in cuts], dtype=np.int32),
        )

    def save(self, folder: Path) -> None:
        """Write the probe, where none is; ``StoreCorrupt`` if the model has changed since the one in `folder`."""
        if (folder / PROBE).is_file():
            stored = _read_probe(folder, model_id=self.spec.model_id, host=self.spec.revision)
            now = np.asarray(json.loads(self._probe)["vectors"], dtype=np.float32)
            _check_unchanged(now, stored, model_id=self.spec.model_id)
            return
        write_text(self._probe, folder / PROBE)


def load_api(
    *, name: str, model_id: str, dim: int, max_tokens: int, config: ApiConfig, probe_folder: Path | None = None
) -> ApiEncoder:
    """Open an encoder behind an API, which encodes the texts of the probe.

    ``name``, ``model_id``: our name and the vendor's. ``dim``: 0 takes the endpoint's. ``max_tokens``: 0 is no limit.
    ``probe_folder``: holds the probe of stored vectors, to be compared; None makes a new one. Raises ``NotAvailable``
    if there is no key or answer, or the probe is missing; ``StoreCorrupt`` if the probe is damaged or of another model,
    or the model has changed; ``EncoderFailed`` if the response is malformed.
    """
    if not 0 <= max_tokens <= config.max_batch_tokens:
        raise ValueError(f"max_tokens must be 0 to max_batch_tokens ({config.max_batch_tokens}), got {max_tokens}")
    stored = None if probe_folder is None else _read_probe(probe_folder, model_id=model_id, host=config.host)
    vectors = embed(PROBE_TEXTS, model_id=model_id, dim=dim, config=config)
    spec = EncoderSpec(
        name=name,
        kind="api",
        model_id=model_id,
        revision=config.host,
        max_tokens=max_tokens,
        dim=vectors.shape[1],
    )
    if stored is None:
        return ApiEncoder(spec=spec, config=config, probe=_write_probe(vectors, spec))
    _check_unchanged(vectors, stored, model_id=model_id)
    return ApiEncoder(spec=spec, config=config, probe=canonical_json(stored) + "\n")


def _write_probe(vectors: Float32[np.ndarray, "text dim"], spec: EncoderSpec) -> str:
    rounded = vectors.astype(np.float64).round(_DECIMALS).tolist()
    date = datetime.now(UTC).date().isoformat()
    return canonical_json({"date": date, "model": spec.model_id, "host": spec.revision, "vectors": rounded}) + "\n"


def _read_probe(folder: Path, *, model_id: str, host: str) -> dict[str, Any]:
    """Read a stored probe; before anything is sent it must be of this model and endpoint."""
    path = folder / PROBE
    if not path.is_file():
        raise NotAvailable(f"{path} is missing, so {model_id!r} cannot be checked for changes; encode again")
    try:
        stored = read_json(path)
        vectors = np.asarray(stored["vectors"], dtype=np.float64)
        made_with = (str(stored["model"]), str(stored["host"]), str(stored["date"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"{path} is damaged ({type(error).__name__}); encode again under another store") from error
    lengths = np.linalg.norm(vectors, axis=-1)
    if lengths.shape != (len(PROBE_TEXTS),) or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise StoreCorrupt(f"{path} does not hold {len(PROBE_TEXTS)} vectors; encode again under another store")
    if made_with[:2] != (model_id, host):
        raise StoreCorrupt(
            f"{path} was made with {made_with[0]!r} at {made_with[1]}, asked for is {model_id!r} at {host}; "
            "give that endpoint as --base-url or OPENAI_BASE_URL"
        )
    return {"date": made_with[2], "model": model_id, "host": host, "vectors": vectors.tolist()}


def _check_unchanged(vectors: Float32[np.ndarray, "text dim"], stored: dict[str, Any], *, model_id: str) -> None:
    known = np.asarray(stored["vectors"])
    if known.shape != vectors.shape:
        raise StoreCorrupt(
            f"model {model_id!r} gives {vectors.shape[1]} dims, on {stored['date']} it gave {known.shape[1]}; "
            "encode again under another store"
        )
    cosines = (known * vectors).sum(axis=1) / np.linalg.norm(known, axis=1)
    lowest = float(cosines.min())
    if not lowest >= MIN_COSINE:
        raise StoreCorrupt(
            f"the vendor's model {model_id!r} has changed since {stored['date']} (lowest cosine {lowest:.4f}, "
            f"{MIN_COSINE} is needed); encode again under another store"
        )
