"""Terms of the Cell Ontology that comes with the package: labels, synonyms, ancestors."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pyarrow as pa

from genekb.files.limits import parse_json


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Term:
    """A cell type of the Cell Ontology."""

    id: str  # ``CL:`` and seven digits
    label: str
    synonyms: tuple[str, ...]
    ancestors: Mapping[str, int]  # identifiers, and how many steps of is_a each is away; parents are one away


@cache
def read_ontology() -> dict[str, Term]:
    """Read the terms that are not deprecated, by identifier; `data/README.md` says of which release."""
    packed = files("cellmodel.annotate").joinpath("data", "CL-ontology-v2026-03-26.json.zst").read_bytes()
    found = parse_json(pa.input_stream(pa.py_buffer(packed), compression="zstd").read())
    return {
        key: Term(id=key, label=one["label"], synonyms=tuple(one.get("synonyms", ())), ancestors=one["ancestors"])
        for key, one in found.items()
        if not one["deprecated"]
    }
