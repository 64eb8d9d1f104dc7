"""Encoders by name: each family loaded, and opened again by its recipe; those without weights."""

import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.core.plugins import load_plugin, origin, require, unusable
from genekb.encoders.base import Encoder, EncoderSpec, TextEncoder, VectorsAndTokens
from genekb.encoders.kinds import KINDS, ModelEntry, Where, entries, find_entry, is_built_in, plugins
from genekb.encoders.local.encoder import Compute
from genekb.encoders.local.files import find_place
from genekb.encoders.local.models import load_local, reopen_local, short_name
from genekb.schema import FloatArray

if TYPE_CHECKING:
    import scipy.sparse as sp

log = logging.getLogger(__name__)
_FITTED: Final = "wcp"  # default of a store with texts enough to be fitted on, and where there are no weights
_ENOUGH_TEXTS: Final = 5_000  # about the protein-coding genes of a yeast
_FOR_FEW: Final = "minilm"


def load_encoder(
    name: str,
    *,
    corpus: Sequence[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    online: bool = False,
    base_url: str | None = None,
    trust_remote_code: bool = False,
) -> Encoder:
    """Load an encoder; a given name is never replaced by another.

    Parameters
    ----------
    name
        Name of the registry or of a plug-in, ``auto`` (see :func:`choose_default`), a Hugging Face id, or a folder;
        ``@DIM`` behind it keeps the first values of each vector; ``api:`` and a model's name asks an endpoint.
    corpus
        Texts to fit a ``wcp`` encoder on.
    device, dtype, threads
        See :class:`genekb.encoders.local.encoder.Compute`.
    online
        Whether weights may be downloaded; an API is used only by its name.
    base_url
        Endpoint of an API.
    trust_remote_code
        Whether Python files of a model are run, where sentence-transformers alone cannot load it. They can do all that
        the user can. Their digest becomes part of the recipe.

    Raises
    ------
    NotAvailable
        If the encoder is not on this machine, or a plug-in breaks its contract.
    EncoderFailed
        If its files are not as they, or the registry, declare.
    StoreCorrupt
        If bundled weights differ from the published ones.
    """
    if name == "auto":
        name = choose_default(len(corpus or ()))
        log.info('model="auto": %s', name)
    if is_built_in(name):
        return _load_built_in(name, corpus=corpus)
    if name in plugins():
        return _load_plugin(plugins()[name])
    if is_remote(name):
        from genekb.encoders.api import ApiConfig, load_api

        model_id = name.removeprefix("api:")
        unknown = ModelEntry(name=short_name(model_id), kind="api", model_id=model_id)
        return load_api(find_entry(name) or unknown, config=ApiConfig.from_environment(base_url=base_url))
    compute = Compute(device=device, dtype=dtype, threads=threads)  # type: ignore[arg-type]  # checked
    return load_local(name, compute=compute, online=online, trust_remote_code=trust_remote_code)


def reopen_encoder(
    spec: EncoderSpec,
    folder: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    hint: Path | None = None,
    base_url: str | None = None,
    trust_remote_code: bool = False,
) -> Encoder:
    """Open the encoder that made stored vectors and check that it is the same.

    ``folder``: holds the vectors and a fitted state. ``hint``: local folder from which the model was loaded before. The
    rest: see :func:`load_encoder`. Raises ``NotAvailable`` if its weights are not on this machine, or
    it needs code of its own that is not allowed to run; ``StoreCorrupt`` if weights, code or a vendor's model have
    changed.
    """
    match spec.kind:
        case "transformer" | "static":
            compute = Compute(device=device, dtype=spec.dtype, threads=threads)
            return reopen_local(spec, compute=compute, hint=hint, trust_remote_code=trust_remote_code)
        case "api":
            from genekb.encoders.api import ApiConfig, load_api

            return load_api(spec, config=ApiConfig.from_environment(base_url=base_url), probe_folder=folder)
        case "wcp":
            require("sklearn", needed_by=f"encoder {spec.name!r} needs")
            from genekb.encoders.wcp import reopen_wcp

            return reopen_wcp(spec, folder)
        case "foreign" | "terms" | "mix":
            how = "was imported as vectors of genes" if spec.kind == "foreign" else "is made of vectors of genes"
            raise NotAvailable(
                f"{spec.encoder_id} {how}; it has no encoder that reads a text, which a query and `encode` need"
            )
        case "plugin" if spec.name not in plugins():
            raise NotAvailable(
                f"{spec.encoder_id} was made by a plug-in of {spec.model_id or 'another package'}, which is not "
                f"installed here; install the package that offers encoder {spec.name!r}"
            )
    encoder = load_encoder(spec.name)
    if encoder.spec != spec:
        raise NotAvailable(
            f"encoder {spec.encoder_id} is version {spec.revision}, this genekb has {encoder.spec.revision}; "
            "build the vectors again"
        )
    return encoder


def is_remote(name: str) -> bool:
    """Whether a name asks for an encoder behind a network."""
    entry = find_entry(name)
    return name.startswith("api:") or (entry is not None and entry.kind == "api")


def choose_default(n_texts: int) -> str:
    """Choose what ``auto`` is: wcp; for a store of fewer than 5,000 texts MiniLM, if that is on this machine."""
    entry = find_entry(_FOR_FEW)
    if n_texts < _ENOUGH_TEXTS and entry is not None and find_place(entry.model_id, entry=entry):
        return _FOR_FEW
    return _FITTED


def _load_built_in(name: str, *, corpus: Sequence[str] | None) -> Encoder:
    entry = find_entry(name)
    family, _, dim = name.partition("-")
    n_dims = int(dim) if dim else entry.dim if entry else 0
    if family != "random":
        require("sklearn", needed_by=f"encoder {name!r} needs")
    if family in {"random", "hash"}:
        return BuiltInEncoder("random" if family == "random" else "hash", name=name, dim=n_dims)
    if corpus is None:
        raise EncoderFailed(f"encoder {name!r} is fitted on texts, and none were given")
    from genekb.encoders.wcp import fit_wcp

    return fit_wcp(corpus, name=name, dim=n_dims)


def _load_plugin(plugin: EntryPoint) -> Encoder:
    """Load a plug-in's encoder, whose recipe must have the plug-in's name, kind and a revision."""
    encoder: Encoder = load_plugin(plugin, lambda factory: factory(plugin.name))
    spec = getattr(encoder, "spec", None)
    if not isinstance(spec, EncoderSpec) or (spec.name, spec.kind) != (plugin.name, "plugin") or not spec.revision:
        raise unusable(plugin, f"its spec must have name={plugin.name!r}, kind='plugin' and a revision, got {spec}")
    return encoder


def models() -> list[ModelEntry]:
    """List every encoder of the registry and of plug-ins with the place where it was found; none is imported.

    Examples
    --------
    >>> import genekb as gk
    >>> {"wcp", "minilm"} <= {model.name for model in gk.models()}
    True
    """
    listed = [replace(entry, where=_where(entry)) for entry in entries()]
    return [*listed, *(_describe_plugin(plugin) for plugin in plugins().values())]


def _where(entry: ModelEntry) -> Where:
    if entry.kind == "custom":
        return "not here"
    if KINDS[entry.kind].is_built_in:
        return "built in"
    if KINDS[entry.kind].is_remote:
        return "online"
    place = find_place(entry.model_id, entry=entry)
    return place.where if place else "not here"


def _describe_plugin(plugin: EntryPoint) -> ModelEntry:
    about = plugin.dist.metadata.json if plugin.dist else {}
    return ModelEntry(
        name=plugin.name,
        kind="plugin",
        model_id=origin(plugin),
        licence=str(about.get("license_expression") or about.get("license") or "see the package"),
        note=f"plug-in of {origin(plugin)}",
        package=plugin.dist.name if plugin.dist else "",
        where="plug-in",
    )


REVISION: Final = "1"
N_BUCKETS: Final = 1 << 15


class BuiltInEncoder(TextEncoder):
    """An encoder without weights and state, the same on every machine.

    ``random``: an isotropic random vector for each text. ``hash``: a bag of hashed words and word pairs, projected to
    ``dim`` dimensions by fixed random signs. A token is a word, of ``hash`` a distinct word or word pair.
    """

    def __init__(self, kind: Literal["random", "hash"], *, name: str, dim: int) -> None:
        self.spec = EncoderSpec(name=name, kind=kind, model_id=f"genekb/{kind}", revision=REVISION, dim=dim)

    def _encode(self, texts: Sequence[str], progress: Callable[[int], None]) -> VectorsAndTokens:
        vectors, n_tokens = (_draw if self.spec.kind == "random" else _hash)(texts, dim=self.spec.dim)
        progress(len(texts))
        return vectors, n_tokens, 0


def _draw(texts: Sequence[str], *, dim: int) -> tuple[FloatArray, list[int]]:
    """Draw a vector for each text, seeded by its digest."""
    vectors = np.empty((len(texts), dim), dtype=np.float32)
    for row, text in enumerate(texts):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
        vectors[row] = np.random.Generator(np.random.PCG64(seed)).standard_normal(dim)
    return vectors, [len(re.findall(r"\w+", text)) for text in texts]


def _hash(texts: Sequence[str], *, dim: int) -> tuple[FloatArray, np.ndarray]:
    from sklearn.feature_extraction.text import HashingVectorizer

    counts = HashingVectorizer(n_features=N_BUCKETS, ngram_range=(1, 2), token_pattern=r"(?u)\w+").transform(texts)
    return np.asarray((counts @ _projection(dim)).todense(), dtype=np.float32), np.diff(counts.indptr)


@cache
def _projection(dim: int) -> "sp.csr_matrix":
    """(bucket, dim) of -1, 0 and 1, a third of them not zero :cite:`achlioptas2003projections`."""
    import scipy.sparse as sp

    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, 6, size=(N_BUCKETS, dim), dtype=np.int8)
    return sp.csr_matrix((drawn == 0).astype(np.float32) - (drawn == 1).astype(np.float32))
