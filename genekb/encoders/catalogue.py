"""The encoders that genekb knows by name: one entry each, read from models.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Literal

from genekb.encoders.base import Pooling
from genekb.encoders.kinds import Kind

Where = Literal["bundled", "folder", "cached", "built in", "online", "plug-in", "not here"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """What the catalogue says about one encoder."""

    name: str  # name, aliases: what a user may call it
    # family; ``custom`` is listed only, since it has layers behind the tokens that are not supported; of a ``plugin``
    # name, package and licence are known, ``dim`` is 0
    kind: Kind | Literal["custom"]
    model_id: str  # model_id, revision: name at the hub or the vendor, and the pinned commit if there is one
    dim: int  # dim, max_tokens, pooling, prompt: as in `EncoderSpec`
    max_tokens: int
    pooling: Pooling
    licence: str  # licence, note: for the reader
    note: str
    prompt: str = ""
    revision: str = ""
    aliases: tuple[str, ...] = ()
    # package, package_folder, extra: python package that bundles the model, the folder inside it, and the extra of
    # genekb that installs it
    package: str = ""
    package_folder: str = ""
    extra: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)  # files whose bytes are known, with their hex digests
    where: Where = "not here"  # where the model was found; only `list_models` fills it in


@cache
def entries() -> tuple[ModelEntry, ...]:
    """All entries in the order of models.toml."""
    text = resources.files("genekb.encoders").joinpath("models.toml").read_text(encoding="utf-8")
    return tuple(
        ModelEntry(name=name, **{**table, "aliases": tuple(table.get("aliases", ()))})
        for name, table in tomllib.loads(text).items()
    )


def find_entry(name: str) -> ModelEntry | None:
    """Return the entry with this name, alias or model id, if there is one."""
    return next((entry for entry in entries() if name in (entry.name, entry.model_id, *entry.aliases)), None)
