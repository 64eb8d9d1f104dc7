"""Under which terms the parts of a store stand: each source as its publisher states them, and each encoder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from genekb.encoders.catalogue import ModelEntry, find_entry
from genekb.encoders.kinds import kind_of
from genekb.store.manifest import Manifest

# What a publisher writes, the name that the Hugging Face Hub has for it, and its text; the next asks for more than the
# one before it. A work of the US government carries no licence, so the Hub has no name for it.
_KNOWN: Final = (
    ("public domain", "", "https://www.ncbi.nlm.nih.gov/home/about/policies/"),
    ("cc0", "cc0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    ("mit", "mit", "https://opensource.org/license/mit"),
    ("bsd-3-clause", "bsd-3-clause", "https://opensource.org/license/bsd-3-clause"),
    ("apache-2.0", "apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    ("cc by 4.0", "cc-by-4.0", "https://creativecommons.org/licenses/by/4.0/"),
)
_ID_SUFFIX: Final = re.compile(r"-[0-9a-f]{12}$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Terms of one part of a store."""

    part: str  # a source, or the model of an encoder
    stated: str  # what its publisher says
    url: str  # text of the terms; empty where they are not known to this tool
    rank: int  # how much they ask of a user, from 0 (nothing); -1 where they are not known to this tool
    note: str = ""  # what the registry says of a model
    is_own: bool = False  # whether the part belongs to this tool


@dataclass(frozen=True, kw_only=True, slots=True)
class Licence:
    """Licence of a store as a whole: the Hub's name (``other`` where it has none), our own name, and its text."""

    hub_id: str
    name: str
    link: str


def source_terms(manifest: Manifest) -> tuple[Terms, ...]:
    """Terms of each source, as the manifest records them."""
    parts = (part.strip() for stated in manifest.licences for part in stated.split(";"))
    found = []
    for part in dict.fromkeys(filter(None, parts)):
        source, has_name, stated = part.partition(":")
        found.append(_terms(source if has_name else "sources", (stated if has_name else part).strip()))
    return tuple(found)


def encoder_terms(recipe: Mapping[str, Any]) -> Terms:
    """Terms of the model behind an encoder; those of vectors made elsewhere are for whoever made them to state."""
    model = str(recipe["model_id"] or recipe["name"])
    entry = None if kind_of(recipe).is_imported else _find_model(recipe)
    note = entry.note if entry is not None else ""
    if _is_built_in(recipe):
        return replace(_terms(model, "BSD-3-Clause"), note=note, is_own=True)
    if entry is not None:
        return replace(_terms(model, entry.licence), note=note)
    return _terms(model, kind_of(recipe).licence)


def _is_built_in(recipe: Mapping[str, Any]) -> bool:
    """Whether an encoder, or the one below a shuffled encoder, is part of this tool."""
    base = {"kind": str(recipe["model_id"]).partition("-")[0]} if kind_of(recipe).is_permuted else recipe
    return kind_of(base).is_built_in


def _find_model(recipe: Mapping[str, Any]) -> ModelEntry | None:
    """Find the model of a recipe in the registry; a shuffled encoder's is that of the encoder below it."""
    model = str(recipe["model_id"])
    if kind_of(recipe).is_permuted:
        model = _ID_SUFFIX.sub("", model)
    return find_entry(model) or find_entry(model.removesuffix("-onnx"))


def store_licence(manifest: Manifest) -> Licence:
    """Give the strictest of the sources' terms, since it covers the others; ``other`` if any part's are not known."""
    sources = source_terms(manifest)
    encoders = [encoder_terms(entry["recipe"]) for entry in manifest.encoders.values()]
    if not sources or min(terms.rank for terms in (*sources, *encoders)) < 0:
        return Licence(hub_id="other", name="see-the-licence-of-each-part", link="README.md#licences")
    stated, hub_id, url = _KNOWN[max(terms.rank for terms in sources)]
    return Licence(hub_id=hub_id or "other", name=stated.replace(" ", "-"), link=url)


def _terms(part: str, stated: str) -> Terms:
    words = stated.lower().replace("-", " ")
    for rank, (name, _, url) in enumerate(_KNOWN):
        if re.fullmatch(rf"(.*, )?{re.escape(name.replace('-', ' '))}( \(.*\))?", words):
            return Terms(part=part, stated=stated, url=url, rank=rank)
    return Terms(part=part, stated=stated, url="", rank=-1)
