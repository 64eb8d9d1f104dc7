"""Records of results in ``uns``: the run, store and encoder that made them; values that a file can hold."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.sparse as sp

import genekb
from cellmodel.core.arrays import CellGraph
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import LineageMismatch
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import SAMPLE_KEY
from genekb.core.plugins import installed_version

if TYPE_CHECKING:
    import pandas as pd

VERSIONED: Final = ("genekb-cellmodel", "numpy", "scipy", "scikit-learn", "scikit-network", "torch", "anndata")
# Tables of a record of a run, and the columns that are read again
_TABLES: Final[dict[tuple[str, ...], frozenset[str]]] = {
    ("markers",): frozenset({"cluster", "name", "log2_fold_change", "p_adjusted", "fraction_in", "fraction_out"}),
    ("words",): frozenset({"cluster", "term", "score", "p_value", "p_adjusted", "gene", "weight", "sentence"}),
    ("knowledge",): frozenset({"knowledge", "neighbor_agreement"}),
    ("history",): frozenset(),
}


def input_record(cells: AnyCells) -> dict[str, Any]:
    """Versions that work on the cells, and what was read: the part of a record that needs no run."""
    import pandas as pd

    return {
        "versions": {name: installed_version(name) for name in VERSIONED},
        "input": {
            "source": cells.source.rsplit("/", 1)[-1],
            "value_kind": str(cells.kind),
            "notes": list(cells.notes),
            "n_cells": cells.shape[0],
            "n_genes": cells.shape[1],
            **({"files": pd.DataFrame(map(asdict, cells.files)), SAMPLE_KEY: cells.sample_key} if cells.files else {}),
        },
    }


def recorded_sample_key(uns: Mapping[str, Any], key: str) -> str:
    """Column of obs with the samples of several files, as the run ``key`` or another has it; empty where none has."""
    records = (uns.get(name) for name in (key, *sorted(uns)))
    return next(filter(None, (_text(record, "input", SAMPLE_KEY) for record in records)), "")


def run_record(uns: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Record of the run that made clusters; None where there is none that is whole: ``uns`` may hold anything."""
    record = uns.get(key)
    if not isinstance(record, Mapping) or not {"seed", "recipe"} <= record.keys():
        return None
    tables = [stored_table(record, *path, columns=columns) for path, columns in _TABLES.items()]
    parts = [record.get(name) for name in ("input", "params", "versions", "n_clusters")]
    is_whole = all(table is not None for table in tables) and all(isinstance(part, Mapping) for part in parts)
    return record if is_whole else None


_OF_GRAPH: Final = ("preprocess", "graph", "low_data", "spatial", "batch", "use_rep", "seed")  # settings
_OF_VALUES: Final = ("value_kind", "notes", "n_cells", "n_genes")


def stored_graph(cells: AnyCells, key: str, config: RunConfig) -> CellGraph | None:
    """Give the neighbors graph of a run, where these cells would have the same one again; else None.

    They would where the settings that decide it, the versions, and what was noted of the values are those of the run.
    """
    record, graph = run_record(cells.adata.uns, key), cells.adata.obsp.get(f"{key}_connectivities")
    if record is None or not isinstance(graph, sp.csr_matrix):
        return None
    now, given = input_record(cells), h5ad_safe(config.to_dict())
    is_same = (
        all(_plain(record["params"].get(name)) == _plain(given.get(name)) for name in _OF_GRAPH)
        and all(_plain(record["input"].get(name)) == _plain(now["input"][name]) for name in _OF_VALUES)
        and _plain(record["versions"]) == now["versions"]
    )
    return graph if is_same else None


def _plain(value: Any) -> Any:
    """Give a value as it was before it was written to a file."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


def stored_table(record: object, *path: str, columns: Collection[str] = ()) -> "pd.DataFrame | None":
    """Find a table inside nested records; None where it is missing, no table, or has rows and lacks a column."""
    import pandas as pd

    for part in path:
        if not isinstance(record, Mapping) or part not in record:
            return None
        record = record[part]
    if not isinstance(record, pd.DataFrame) or (len(record) and not set(columns) <= set(record)):
        return None
    return record


log = logging.getLogger(__name__)
_CLUSTERS_FROM: Final = "clusters_from"
_GO_ON: Final = "other_store=True"
_DEFAULT_KEY: Final = "cellmodel"  # of a search that names no clusters


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """A store and an encoder of it, by their ids; empty where there is none."""

    store_id: str
    encoder_id: str = ""
    # what a result depends on of both, see :meth:`genekb.store.manifest.Manifest.content_id`; empty in older records
    content_id: str = ""


def lineage_of(kb: genekb.Store, encoder_id: str) -> Lineage:
    """Ids of a store and an encoder."""
    return Lineage(store_id=kb.store_id, encoder_id=encoder_id, content_id=kb.manifest.content_id(encoder_id))


def holds_same(kb: genekb.Store, made_with: Lineage) -> bool:
    """Whether a store holds the texts, genes, names and vectors that something was made with: that store, or another.

    A record without a content id is compared by that of its store, if it is still on this machine.
    """
    return _is_same(made_with, lineage_of(kb, made_with.encoder_id), near=kb.folder)


def _is_same(one: Lineage, other: Lineage, *, near: Path | None = None) -> bool:
    """Compare tables, and vectors where both name one encoder; of other encoders a store may have any."""
    from genekb.builder.diff import find_content_id

    if one.store_id == other.store_id:
        return True
    (tables, _, vectors), (other_tables, _, other_vectors) = (
        (each.content_id or find_content_id(each.store_id, each.encoder_id, near=near)).partition(":")
        for each in (one, other)
    )
    is_one_encoder = one.encoder_id == other.encoder_id
    return bool(tables) and tables == other_tables and (vectors == other_vectors or not is_one_encoder)


def check_lineage(
    cells: AnyCells,
    kb: genekb.Store,
    config: RunConfig | None,
    *,
    key: str,
    other_store: bool = False,
    kb_argument: str = "kb",
) -> Lineage | None:
    """Compare what the clusters or labels of a file were made with to what is given now.

    Another store that holds the same is the same, see :func:`holds_same`. The encoder counts where the store chooses
    it: one that is named is meant. Where there is no record (clusters from elsewhere), or no knowledge was used, there
    is nothing to compare.

    ``config``: names the encoder, or none; None where no encoder of ``kb`` is used. ``key``: column of obs that is
    worked on, and of its record in uns. ``other_store``: whether a difference is meant. ``kb_argument``: argument that
    gives the store, for the hint. Returns what they were made with, where that differs and it is meant; else
    ``LineageMismatch``.
    """
    recorded = _recorded(cells.adata.uns, key)
    if recorded is None:
        return None
    is_chosen_by_store = config is not None and config.encoder is None and kb.encoder_ids
    encoder_id = kb.encoder_id() if is_chosen_by_store else recorded.encoder_id
    if not holds_same(kb, recorded):
        recorded_ids = f"store {recorded.store_id}, {kb.store_id} was given"
        hint = f'{kb_argument}="{digest_of(recorded)}"'
    elif recorded.encoder_id not in {"", encoder_id}:
        recorded_ids = f"encoder {recorded.encoder_id}, the first one of {kb.store_id} is {encoder_id}"
        hint = f'encoder="{recorded.encoder_id}"'
    else:
        return None
    if not other_store:
        raise LineageMismatch(
            f"{key!r} of {cells.source} was made with {recorded_ids}; give {hint}, or {_GO_ON} to go on with what was "
            "given"
        )
    log.warning("%s of %s was made with %s; both are recorded", key, cells.source, recorded_ids)
    return recorded


def digest_of(made_with: Lineage) -> str:
    """First digits of a store's digest, by which commands find it whatever its name refers to now."""
    return made_with.store_id.partition(":")[2] or made_with.store_id


def lineage_record(made_with: Lineage | None) -> dict[str, Any]:
    """Give what a result records beside its own store, where its clusters were made with another one."""
    if made_with is None:
        return {}
    return {_CLUSTERS_FROM: {"store_id": made_with.store_id, "encoder_id": made_with.encoder_id}}


def check_records(cells: AnyCells, *, key: str, other_store: bool = False) -> None:
    """Check that names, evidence and searches in a file were made with the store of the clusters that they are about.

    They were not where the clusters were made again with another store; what was made so on purpose has it in its
    record. Raises ``LineageMismatch``.
    """
    clusters = _recorded(cells.adata.uns, key)
    if clusters is None or other_store:
        return
    for name, record in sorted(cells.adata.uns.items()):
        found = _recorded(cells.adata.uns, name)
        if found is None or name == key or _about(record) != key or _is_same(found, clusters):
            continue
        if _text(record, _CLUSTERS_FROM, "store_id") != clusters.store_id:
            raise LineageMismatch(
                f"{name!r} of {cells.source} was made with store {found.store_id}, its clusters {key!r} with "
                f"{clusters.store_id}; make it again with one of the two, or {_GO_ON} to show both"
            )


def _recorded(uns: Mapping[str, Any], key: str) -> Lineage | None:
    record = uns.get(key)
    store_id = _text(record, "store_id")
    if not store_id or _text(record, "params", "knowledge") == "none":
        return None
    return Lineage(store_id=store_id, encoder_id=_text(record, "encoder_id"), content_id=_text(record, "content_id"))


def _about(record: object) -> str:
    """Clusters that a record is about; empty for a run, which is about the cells."""
    is_search = bool(_text(record, "params", "query"))
    own = _text(record, "cluster_key") or _text(record, "params", "cluster_key")
    return own or (_DEFAULT_KEY if is_search else "")


def _text(record: object, *path: str) -> str:
    """Find a text inside nested records; empty where there is none: uns may hold anything under any name."""
    for part in path:
        if not isinstance(record, Mapping) or part not in record:
            return ""
        record = record[part]
    return str(record) if isinstance(record, str) else ""


INT64: Final = np.iinfo(np.int64)


def h5ad_safe(value: Any) -> Any:
    """Turn nested values into types that survive writing and reading h5ad.

    None and missing text become ``""``; paths, bytes, sets and integers beyond 64 bits become text; what text cannot
    hold in a file is escaped, and ``/`` in a key becomes ``_``; ``ValueError`` if two keys become equal. A list of
    numbers or of text becomes an array, a list that holds lists, arrays or mappings a mapping by position.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif isinstance(value, set | frozenset):
        value = sorted(map(_safe_text, value))
    elif isinstance(value, np.ndarray) and value.dtype == object:
        value = value.tolist()
    if isinstance(value, Mapping):
        return _safe_mapping(value)
    if isinstance(value, list | tuple):
        return _safe_list(value)
    if hasattr(value, "reset_index"):
        return _safe_frame(value)
    is_text = value is None or isinstance(value, str | bytes | Path)
    return _safe_text(value) if is_text or not _fits(value) else value


def _safe_text(value: Any) -> str:
    if type(value) is str and value.isascii() and "\0" not in value:  # nearly all
        return value
    if value is None:
        return ""
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def _safe_mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    safe: dict[str, Any] = {}
    for key, item in value.items():
        name = _safe_text(key).replace("/", "_")
        if name in safe:
            raise ValueError(f"two keys become {name!r} in a file, one of them {key!r}; rename one")
        safe[name] = h5ad_safe(item)
    return safe


def _safe_list(value: Sequence[Any]) -> Any:
    if any(isinstance(item, list | tuple | set | frozenset | Mapping | np.ndarray) for item in value):
        return {str(position): h5ad_safe(item) for position, item in enumerate(value)}
    if value and all(isinstance(item, int | float | np.number | np.bool_) and _fits(item) for item in value):
        return np.asarray(value)
    return np.array([_safe_text(item) for item in value], dtype=object)


def _fits(value: Any) -> bool:
    return not isinstance(value, int) or INT64.min <= value <= INT64.max


def _safe_frame(frame: "pd.DataFrame") -> "pd.DataFrame":
    from pandas.api.types import is_object_dtype, is_string_dtype

    safe = frame.set_axis([_safe_text(name) for name in frame.index], axis=0)
    for name in [name for name, kind in safe.dtypes.items() if is_object_dtype(kind) or is_string_dtype(kind)]:
        missing = safe[name].isna()
        safe[name] = [_safe_text(item) for item in safe[name].where(~missing, "")]
    return safe.set_axis([_safe_text(name).replace("/", "_") for name in safe.columns], axis=1)
