"""Which store and encoder a result was made with, and whether those that are given now are the same."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import genekb
from cellmodel.config import RunConfig
from cellmodel.errors import LineageMismatch
from cellmodel.io import Cells

log = logging.getLogger(__name__)
_CLUSTERS_FROM: Final = "clusters_from"
_GO_ON: Final = "--other-store (other_store=True)"
_DEFAULT_KEY: Final = "cellmodel"  # of a search that names no clusters


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """A store and an encoder of it, by their ids; empty where there is none."""

    store_id: str
    encoder_id: str = ""


def given_lineage(kb: genekb.Store, config: RunConfig) -> Lineage:
    """Tell what a command is given. An encoder counts where the store chose it: one that was named is meant."""
    is_chosen_by_store = config.encoder is None and kb.encoder_ids
    return Lineage(store_id=kb.store_id, encoder_id=kb.encoder_id() if is_chosen_by_store else "")


def check_lineage(
    cells: Cells, given: Lineage, *, key: str, other_store: bool = False, kb_option: str = "--kb"
) -> Lineage | None:
    """Compare what the clusters or labels of a file were made with to what is given now.

    Parameters
    ----------
    key
        Column of obs that is worked on; ``uns[key]`` is the record of how it was made. Where there is none (clusters
        from elsewhere), or they were made without knowledge, there is nothing to compare.
    other_store
        Whether a difference is meant.
    kb_option
        Option that gives the store of these cells, for the way out.

    Returns
    -------
    What they were made with, where that differs and it is meant; to be recorded beside what is given.

    Raises
    ------
    LineageMismatch
        If it differs and that is not meant; the message has both ids and the ways out.
    """
    recorded = _recorded(cells.adata.uns, key)
    if recorded is None:
        return None
    if recorded.store_id != given.store_id:
        digest = recorded.store_id.partition(":")[2] or recorded.store_id
        told, way_out = f"store {recorded.store_id}, {given.store_id} was given", f"{kb_option} {digest}"
    elif recorded.encoder_id and given.encoder_id and recorded.encoder_id != given.encoder_id:
        told = f"encoder {recorded.encoder_id}, the first one of {given.store_id} is {given.encoder_id}"
        way_out = f"--encoder {recorded.encoder_id}"
    else:
        return None
    if not other_store:
        raise LineageMismatch(
            f"{key!r} of {cells.source} was made with {told}; give {way_out}, or {_GO_ON} to go on with what was given"
        )
    log.warning("%s of %s was made with %s; both are recorded", key, cells.source, told)
    return recorded


def lineage_record(made_with: Lineage | None) -> dict[str, Any]:
    """Give what a result records beside its own store, where its clusters were made with another one."""
    return {} if made_with is None else {_CLUSTERS_FROM: asdict(made_with)}


def check_records(cells: Cells, *, key: str, other_store: bool = False) -> None:
    """Check that names, evidence and searches in a file were made with the store of the clusters that they are about.

    They were not where the clusters were made anew with another store. What was made with another one on purpose says
    so in its record.

    Raises
    ------
    LineageMismatch
        If one was made with another store; the message has both ids and the ways out.
    """
    clusters = _recorded(cells.adata.uns, key)
    if clusters is None or other_store:
        return
    for name, record in sorted(cells.adata.uns.items()):
        found = _recorded(cells.adata.uns, name)
        if found is None or name == key or _about(record) != key or found.store_id == clusters.store_id:
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
    return Lineage(store_id=store_id, encoder_id=_text(record, "encoder_id"))


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
