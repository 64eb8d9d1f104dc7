"""Families of encoders, and those known by name: what the rest of genekb asks about one is answered here alone."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.metadata import EntryPoint
from typing import Any, Final, Literal

from genekb.core.plugins import find_plugins

GROUP: Final = "genekb.encoders"  # entry points of plug-ins: each names a function, name → Encoder
_BUILT_IN: Final = re.compile(r"(hash|random|wcp)-[1-9]\d{0,3}|wcp")
Kind = Literal["transformer", "static", "api", "wcp", "hash", "random", "foreign", "plugin", "terms", "mix"]
Pooling = Literal["mean", "cls", "last", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderKind:
    """Properties of a family; a new family is an entry of :data:`KINDS`, a module, and a line where it is loaded."""

    is_built_in: bool = False  # part of genekb, without weights
    is_fitted: bool = False  # on the texts of a store, which keeps the fitted state
    is_control: bool = False
    is_remote: bool = False  # behind a network, with one rate limit for all who ask
    is_imported: bool = False  # vectors of genes that were made elsewhere; encodes no text
    licence: str = "see the model card"  # terms of a model that the registry does not know
    reads_characters: bool = False  # whether a vector says something of a text of unknown words
    not_searched: str = ""  # why a search uses such an encoder only by name
    limit: str = ""  # what a user of the vectors should know

    @property
    def keyed_by(self) -> Literal["text_id", "gene_id"]:
        """What a vector belongs to."""
        return "gene_id" if self.is_imported else "text_id"


KINDS: Final[Mapping[Kind, EncoderKind]] = {
    "transformer": EncoderKind(),
    "static": EncoderKind(),
    "api": EncoderKind(
        is_remote=True,
        licence="the vendor's terms",
        not_searched="behind a network; name it to ask it",
        limit="A vendor may change the weights behind a model's name; a query encoded later may then not fit the "
        "vectors.",
    ),
    "wcp": EncoderKind(
        is_built_in=True,
        is_fitted=True,
        reads_characters=True,
        limit="wcp was fitted on the texts of this store, or of the one it was updated from; of a word that they lack "
        "it knows the characters alone.",
    ),
    "hash": EncoderKind(is_built_in=True),
    "random": EncoderKind(
        is_built_in=True,
        is_control=True,
        not_searched="a control",
        limit="random vectors are a control: they keep nothing of a text but which one it is.",
    ),
    "foreign": EncoderKind(
        is_imported=True,
        licence="as stated by whoever made the vectors",
        not_searched="imported as vectors of genes, so it cannot read a query",
        limit="Vectors made elsewhere hang on genes; which text they were made from is not known here.",
    ),
    "terms": EncoderKind(
        is_imported=True,
        licence="those of the annotations",
        not_searched="made of annotations, so it cannot read a query",
        limit="terms was fitted on the annotations of genes in the sources; a gene without any has no vector.",
    ),
    "mix": EncoderKind(
        is_imported=True,
        licence="those of its parts",
        not_searched="made of the vectors of other encoders, so it cannot read a query",
        limit="mix is the weighted mean of the cosines of its parts; a gene that lacks a part keeps the others.",
    ),
    "plugin": EncoderKind(licence="see the package"),
}


def kind_of(recipe: Mapping[str, Any]) -> EncoderKind:
    """Properties of the family of a recipe, as a manifest holds it; the defaults where it is unknown."""
    return KINDS.get(recipe["kind"], EncoderKind())


def split_dim(name: str) -> tuple[str, int]:
    """Name of a model, and how many of the first values of its vectors ``NAME@DIM`` asks for; 0 is all."""
    found = re.fullmatch(r"(.+)@([1-9]\d{0,4})", name)
    return (found[1], int(found[2])) if found else (name, 0)


def stored_name(name: str) -> str:
    """Short name in a store of the encoder that a user asks for."""
    if name.startswith(("terms:", "mix:")):  # ``terms-go-pubmed``; ``mix-wcp-go`` of the parts wcp and terms-go
        family, _, listed = name.partition(":")
        parts = (part.partition("=")[0].strip().removeprefix("terms-") for part in listed.split(","))
        return "-".join([family, *parts])
    model, dim = split_dim(name.removeprefix("api:"))
    return f"{model}-{dim}" if dim else name


def asked_names(recipes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names by which encoders of these recipes, by id, are asked for: :func:`stored_name` backwards.

    ``ValueError`` for one that no name gives: imported vectors.
    """
    asked = []
    for recipe in recipes.values():
        name, model_id, entry = str(recipe["name"]), str(recipe["model_id"]), find_entry(str(recipe["model_id"]))
        if recipe["kind"] == "foreign":
            raise ValueError(f"encoder {name} holds vectors that were made elsewhere")
        if recipe["kind"] == "mix":
            parts = (part.rpartition("=") for part in model_id.split(","))
            name = "mix:" + ",".join(f"{recipes[encoder_id]['name']}={weight}" for encoder_id, _, weight in parts)
        elif recipe["kind"] == "terms":
            name = f"terms:{model_id}"
        elif kind_of(recipe).is_built_in or recipe["kind"] == "plugin":
            pass
        elif entry is not None and name == f"{entry.name}-{recipe['dim']}":
            name = f"{entry.name}@{recipe['dim']}"
        elif entry is None:
            name = f"api:{model_id}" if recipe["kind"] == "api" else model_id
        asked.append(name)
    return asked


Where = Literal["bundled", "folder", "cached", "built in", "online", "plug-in", "not here"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """What the catalog says about one encoder."""

    name: str  # name, aliases: what a user may call it
    # family; ``custom`` is listed only, since it has layers behind the tokens that are not supported; of a ``plugin``
    # name, package and licence are known, ``dim`` is 0
    kind: Kind | Literal["custom"]
    model_id: str  # model_id, revision: name at the hub or the vendor, and the pinned commit if there is one
    dim: int = 0  # dim, max_tokens, pooling, prompt: as in `EncoderSpec`
    licence: str = ""  # licence, note: for the reader
    note: str = ""
    max_tokens: int = 0
    pooling: Pooling = "none"
    prompt: str = ""
    revision: str = ""
    aliases: tuple[str, ...] = ()
    # package, package_folder, extra: python package that bundles the model, the folder inside it, and the extra of
    # genekb that installs it
    package: str = ""
    package_folder: str = ""
    extra: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)  # files whose bytes are known, with their hex digests
    where: Where = "not here"  # where the model was found; only `models` fills it in


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


def is_built_in(name: str) -> bool:
    """Whether a name is that of an encoder without weights: ``wcp``, ``wcp-DIM``, ``hash-DIM``, ``random-DIM``."""
    return _BUILT_IN.fullmatch(name) is not None


@cache
def plugins() -> dict[str, EntryPoint]:
    """Find the encoders of other packages by name; none is imported."""
    return find_plugins(GROUP, is_taken=lambda name: name == "auto" or is_built_in(name) or bool(find_entry(name)))
