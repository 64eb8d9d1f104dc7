"""The tasks of a run: which slot of an AnnData holds which result; clusters alone, or with names and evidence."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Int

import genekb
from cellmodel.annotate.candidates import Panel
from cellmodel.annotate.cell_types import CellType, usual_types
from cellmodel.annotate.levels import Level
from cellmodel.annotate.name_cells import TypeChoice, TypeNaming
from cellmodel.cluster.hierarchy import MOST_LEVELS, Tree, group_name
from cellmodel.core.arrays import Labels
from cellmodel.core.colors import cluster_color
from cellmodel.core.config import RunConfig
from cellmodel.core.device import device_used
from cellmodel.core.errors import InputUnusable, UnknownName
from cellmodel.core.stages import AnyStages
from cellmodel.explain.evidence import AttributeConfig
from cellmodel.explain.markers import marker_frame
from cellmodel.io.backed import AnyCells, cells_in_memory
from cellmodel.io.records import input_record
from cellmodel.io.writers import WriteConfig
from cellmodel.pp.integrate import integration_version
from cellmodel.pp.text.align import GeneAlignment
from cellmodel.pp.text.sentences import AgreementRow, ClusterSentence, SentenceRecord
from cellmodel.recipes.registry import plugin_version
from cellmodel.tl._names import annotate_task, overlap_task
from cellmodel.tl._run import RunResult, check_settings, run
from cellmodel.tl._task import Step, Task, attribute_task, named_categories, run_on_cells
from cellmodel.tl._within import check_within, cluster_within, parse_within
from cellmodel.tl.model.fitted import check_can_predict, fit_model, save_model
from genekb.core.messages import check_choice
from genekb.core.progress import progress
from genekb.files.replace import Target
from genekb.files.tables import write_table

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


_SLOTS: Final = (
    ("obsm", "X_{}"),
    ("obsm", "X_{}_expr"),
    ("obsm", "X_{}_text"),
    ("obsm", "X_{}_joint"),
    ("obsp", "{}_distances"),
    ("obsp", "{}_connectivities"),
    ("uns", "{}_neighbors"),
    ("uns", "{}"),
    ("var", "{}_gene_id"),
)
_CLUSTER_SLOTS: Final = (
    ("obs", "{}"),
    ("obs", "{}_confidence"),
    *(("obs", f"{{}}_level_{level + 1}") for level in range(MOST_LEVELS)),
    ("uns", "{}_colors"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CellRun:
    """A run, and the cells that it read."""

    cells: AnyCells
    result: RunResult


def cluster_task(
    kb: genekb.Store | None,
    config: RunConfig,
    *,
    key_added: str = "cellmodel",
    with_clusters: bool = True,
    within: str | None = None,
) -> Task[CellRun]:
    """Embed cells and, unless ``with_clusters`` is false, cluster them, see :func:`cellmodel.tl._run.run`.

    ``within``: ``COLUMN=CLUSTER[,CLUSTER]`` where some clusters are clustered again, see
    :func:`cellmodel.tl._within.cluster_within`. A model and a report are written beside the cells,
    where these are asked for.
    """
    part = None if within is None else parse_within(within)

    def find(cells: AnyCells, stages: AnyStages) -> CellRun:
        for note in cells.notes:
            log.info("%s", note)
        given = None if part is None else cluster_within(cells, kb, config, part)
        result = run(cells, kb, config, with_clusters=with_clusters, given=given, stages=stages)
        return CellRun(cells=cells, result=result)

    def check(write: WriteConfig, is_backed: bool) -> None:  # noqa: FBT001 - as tasks are checked
        check_settings(config, out_of_core=is_backed)
        if write.model is not None:
            check_can_predict(config)
        if part is not None:
            check_within(config, is_backed=is_backed, saves_model=write.model is not None)

    return Task(
        slots=_SLOTS + _CLUSTER_SLOTS if with_clusters else _SLOTS,
        find=find,
        values=lambda cells, found: _values(cells, found.result, key_added),
        check=check,
        write_beside=_write_beside,
        stage_key={
            "config": config.to_dict(),
            "store": kb.store_id if kb is not None else "",
            "plug-in": plugin_version(config.recipe) | integration_version(config.integration),
        },
        obsm=tuple(key for key in ("spatial" if config.spatial else None, config.use_rep) if key is not None),
        batch_key=None if config.batch is None else config.batch.key,
    )


AFTER: Final = ("annotate", "attribute")  # steps after the clusters, each named as its command


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainConfig:
    """What is done with the clusters of a run, see :func:`chain_task`."""

    skip: tuple[str, ...] = ()  # of ``AFTER``
    types: tuple[CellType, ...] = field(default_factory=usual_types)  # the names to choose from
    level: Level = "auto"  # of names, see :class:`cellmodel.annotate.name_cells.TypeNaming`
    panel: Panel | None = None  # marker genes by type, by whose overlap clusters are named where there is no store
    gmt: tuple[Path, ...] = ()  # files of gene sets
    tables: Path | None = None  # folder for the table of the cells and those of the evidence

    def __post_init__(self) -> None:
        """Check the steps."""
        for name in self.skip:
            check_choice("step", name, AFTER, error=UnknownName)


def chain_task(
    kb: genekb.Store | None, config: RunConfig, chain: ChainConfig, *, key_added: str = "cellmodel", **more: Any
) -> Task[dict[str, Any]]:
    """Cluster cells, name the clusters and explain what sets them apart: all that the commands for each do, as one.

    ``more``: as for :func:`cluster_task`. What is found is given by the name of the step; of cells that are one
    cluster, that of ``cluster`` alone. Names and evidence are in the slots ``<key>_name`` and ``<key>_attribution``.
    Raises ``InputUnusable`` if a step needs a store and there is none.
    """
    steps = (
        Step(name="cluster", task=cluster_task(kb, config, key_added=key_added, **more)),
        *_steps_after(kb, config, chain, cluster_key=key_added),
    )
    first = steps[0].task

    def find(cells: AnyCells, stages: AnyStages) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for step in steps:
            if found and found["cluster"].result.labels.max() == 0:
                log.warning("the cells are one cluster, which is neither named nor explained")
                break
            cells = cells if step is steps[0] else cells_in_memory(cells)
            key = step.key.format(key_added)
            progress(step.name, 0, 0)
            found[step.name] = run_on_cells(cells, step.task, key_added=key, overwrite=True, stages=stages)
        return found

    def check(write: WriteConfig, is_backed: bool) -> None:  # noqa: FBT001 - as tasks are checked
        for step in steps:
            if step.task.check is not None:
                step.task.check(write, is_backed)

    def write_all_beside(cells: AnyCells, found: dict[str, Any], write: WriteConfig) -> None:
        for step in steps:
            if step.name in found and step.task.write_beside is not None:
                step.task.write_beside(cells, found[step.name], write)
        slots = (slot for step in steps for slot in step.task.slots_for(step.key.format(key_added)))
        _write_cell_table(cells.adata.obs, slots, chain, overwrite=write.overwrite)

    return replace(
        first,
        slots=(),
        steps=steps,
        find=find,
        values=lambda *_: (),
        check=check,
        inputs=tuple(path for step in steps for path in step.task.inputs),
        targets=(*(target for step in steps for target in step.task.targets), *_cell_table(chain)),
        write_beside=write_all_beside,
    )


def _steps_after(kb: genekb.Store | None, config: RunConfig, chain: ChainConfig, *, cluster_key: str) -> Iterator[Step]:
    """Name and explain the clusters, with the settings of their commands: genes and seed are those of the run."""
    own = RunConfig(
        encoder=config.encoder,
        min_coverage=config.min_coverage,
        use_orthologs=config.use_orthologs,
        seed=config.seed,
    )
    wanted = [name for name in AFTER if name not in chain.skip]
    without = [name for name in wanted if kb is None and (name != "annotate" or chain.panel is None)]
    if without:
        raise InputUnusable(
            f"{' and '.join(without)} need a store; give --kb NAME, or leave them out: --skip {','.join(without)}"
        )
    if "annotate" in wanted and kb is None:
        yield Step(name="annotate", task=overlap_task(chain.panel or {}, cluster_key=cluster_key), key="{}_name")
    elif "annotate" in wanted and kb is not None:
        choice = TypeChoice(cluster_key=cluster_key, types=chain.types, naming=TypeNaming(level=chain.level))
        yield Step(name="annotate", task=annotate_task(kb, own, choice=choice), key="{}_name")
    if "attribute" in wanted and kb is not None:
        what = AttributeConfig(cluster_key=cluster_key, gmt=chain.gmt)
        task = attribute_task(kb, own, choice=what, tables=chain.tables)
        yield Step(name="attribute", task=task, key="{}_attribution")


def _cell_table(chain: ChainConfig) -> tuple[Target, ...]:
    return () if chain.tables is None else (Target(chain.tables / "cells.tsv", makes_parents=True),)


def _write_cell_table(
    obs: "pd.DataFrame", slots: Iterable[tuple[str, str]], chain: ChainConfig, *, overwrite: bool
) -> None:
    """Write what a run found of each cell, a row a cell and its columns of obs, for programs that read no AnnData."""
    columns = [key for part, key in slots if part == "obs" and key in obs]
    for target in _cell_table(chain):
        rows = zip(obs.index, *(obs[column] for column in columns), strict=True)
        write_table(target.path, ["cell", *columns], rows, overwrite=overwrite)


def _write_beside(cells: AnyCells, found: CellRun, write: WriteConfig) -> None:
    if write.model is not None:
        save_model(fit_model(cells, found.result), write.model, overwrite=write.overwrite)
    if write.report is not None:
        from cellmodel.pl.report.write import write_report_of

        write_report_of(cells, write.report, cluster_key=write.key_added, overwrite=write.overwrite)


def _values(cells: AnyCells, result: RunResult, key_added: str) -> list[Any]:
    """Values of the slots, in their order."""
    neighbors = {
        "connectivities_key": f"{key_added}_connectivities",
        "distances_key": f"{key_added}_distances",
        "params": {
            "n_neighbors": result.config.graph.n_neighbors,
            "method": "jaccard",
            "metric": result.config.graph.metric,
            "random_state": result.config.seed,
            "use_rep": f"X_{key_added}_expr",
        },
    }
    found, features = result.representation, result.features
    gene_ids = _gene_ids_of_var(cells, result.alignment.gene_ids) if result.alignment else None
    embeddings = (found.z, found.z_expr, found.z_text, found.z_joint)
    return [*embeddings, features.knn, features.graph, neighbors, _record(cells, result), gene_ids, *_labels(result)]


def _labels(result: RunResult) -> tuple[Any, ...]:
    if result.labels is None or result.tree is None:
        return ()
    confidence = np.asarray(result.confidence, dtype=np.float32)
    levels = [_level(result.tree, n_groups, result.labels, result.names) for n_groups in result.tree.levels()]
    empty = [None] * (MOST_LEVELS - len(levels))
    colors = [cluster_color(number) for number in range(len(result.names))]
    return named_categories(result.labels, result.names), confidence, *levels, *empty, colors


def _level(tree: Tree, n_groups: int, labels: Labels, names: Sequence[str]) -> "pd.Categorical[Any]":
    """Column of obs with the group of each cell at a cut of the tree."""
    groups = [group_name(names, group) for group in tree.groups(n_groups)]
    return named_categories(np.array(tree.group_of(n_groups))[labels], groups)


def _gene_ids_of_var(cells: AnyCells, gene_ids: Int[np.ndarray, " gene"]) -> Int[np.ndarray, " var"]:
    """GeneID of each row of var, 0 where there is none; by name where the values were those of ``.raw``."""
    found = np.zeros(cells.adata.n_vars, dtype=np.int64)
    if cells.var_rows is not None:
        found[cells.var_rows] = gene_ids
        return found
    known = dict(zip(cells.names, gene_ids.tolist(), strict=True))
    return np.array([known.get(str(name), 0) for name in cells.adata.var_names], dtype=np.int64)


def _record(cells: AnyCells, result: RunResult) -> dict[str, Any]:
    import pandas as pd

    record: dict[str, Any] = {
        "params": result.config.to_dict(),
        "seed": result.config.seed,
        "recipe": result.config.recipe_name,
        "device": device_used(result.config.device),
        **input_record(cells),
        "knn_recall": result.features.knn_recall,
        "history": pd.DataFrame(list(result.representation.history)),
    }
    record["versions"] |= plugin_version(result.config.recipe) | integration_version(result.features.integration)
    if result.alignment is not None:
        record |= asdict(result.alignment.lineage)
        record["coverage"] = _coverage_record(result.alignment, result.share_hvgs)
    if result.mixing:
        record["batches"] = batch_record(result) | {"neighbors": pd.DataFrame(mixing_rows(result))}
    if result.sentences is not None:
        record["sentences"] = _sentence_record(result.sentences)
    if result.text is not None and result.representation.text_head is not None:
        record["joint"] = {
            "text_head": result.representation.text_head,
            "whitening_mean": result.text.whitening.mean,
            "whitening_components": result.text.whitening.components,
        }
    return record | _cluster_record(result)


def batch_record(result: RunResult) -> dict[str, Any]:
    """Key, cells and integration of the batches; empty where there are none."""
    batches = result.features.batches
    if batches is None:
        return {}
    sizes = dict(zip(batches.names, batches.n_cells.tolist(), strict=True))
    note = result.mixing[0].note if result.mixing else ""
    return {"key": batches.key, "integration": result.features.integration, "n_cells": sizes, "note": note}


def mixing_rows(result: RunResult) -> list[dict[str, Any]]:
    """Same-batch neighbours of all cells, and of each cluster."""
    return [asdict(row) for row in result.mixing]


def _coverage_record(alignment: GeneAlignment, share_hvgs: float | None) -> dict[str, Any]:
    import pandas as pd

    content = asdict(alignment.coverage)
    content["by_status"] = pd.DataFrame(content["by_status"], columns=["status", "n_names", "share_counts"])
    content["losses"] = pd.DataFrame(content["losses"], columns=["name", "reason", "share_counts"])
    return content | {"share_hvgs": share_hvgs}


def _sentence_record(found: SentenceRecord) -> dict[str, Any]:
    import pandas as pd

    content = asdict(found)
    content["agreement"] = pd.DataFrame(content["agreement"], columns=[field.name for field in fields(AgreementRow)])
    rows = [asdict(row) | {"cluster": str(row.cluster), "genes": " ".join(row.genes)} for row in found.clusters]
    return content | {"clusters": pd.DataFrame(rows, columns=[field.name for field in fields(ClusterSentence)])}


def _cluster_record(result: RunResult) -> dict[str, Any]:
    import pandas as pd

    if result.labels is None:
        return {}
    return {
        "n_clusters": {
            "n_clusters": int(result.labels.max()) + 1,
            "method": result.n_clusters_by,
            "names": list(result.names),
            **({} if result.structure is None else asdict(result.structure)),
        },
        "knowledge": pd.DataFrame([asdict(row) for row in result.knowledge]),
        "markers": marker_frame(result.markers, names=result.names),
        **({"tree": _tree_record(result.tree, result.labels, result)} if result.tree and result.tree.splits else {}),
        "words": _word_frame(result),
    }


def _tree_record(tree: Tree, labels: Labels, result: RunResult) -> dict[str, Any]:
    """Keep the splits of the tree, root first, its merges for other programs, and how many groups each level has."""
    import pandas as pd

    sizes, columns = np.bincount(labels), dict[str, Any]()
    for at, side in enumerate(("left", "right")):
        groups = [getattr(split, side) for split in tree.splits]
        columns[side] = [group_name(result.names, group) for group in groups]
        columns[f"n_cells_{side}"] = [int(sizes[list(group)].sum()) for group in groups]
        if result.split_markers:
            found = [sides[at] for sides in result.split_markers]
            columns[f"n_markers_{side}"] = [one.n_genes for one in found]
            columns[f"markers_{side}"] = [", ".join(one.names) for one in found]
    columns |= {name: [getattr(split, name) for split in tree.splits] for name in ("height", "support")}
    return {"splits": pd.DataFrame(columns), "linkage": tree.linkage(), "levels": list(tree.levels())}


def _word_frame(result: RunResult) -> "pd.DataFrame":
    """One row a word and gene, so that the table stays flat in a file."""
    import pandas as pd

    rows = [
        {
            "cluster": result.names[entry.cluster],
            "term": word.term,
            "score": word.score,
            "p_value": word.p_value,
            "p_adjusted": word.p_adjusted,
            "gene": gene.name,
            "weight": gene.contribution,
            "sentence": gene.sentence,
        }
        for entry in result.words
        for word in entry.words
        for gene in word.genes
    ]
    return pd.DataFrame(rows)
