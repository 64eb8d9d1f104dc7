"""Slots of a run: embeddings, graph, clusters, and the record of how they were made."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from cellmodel.cluster.structure import MOST_LEVELS, Tree, group_name
from cellmodel.core.arrays import Labels
from cellmodel.core.colors import cluster_color
from cellmodel.explain.markers import marker_frame
from cellmodel.io.backed import AnyCells
from cellmodel.io.records import input_record
from cellmodel.nn.train import device_used
from cellmodel.pp.integrate import integration_version
from cellmodel.pp.text.align import GeneAlignment
from cellmodel.pp.text.sentences import AgreementRow, ClusterSentence, SentenceRecord
from cellmodel.recipes.base import Representation
from cellmodel.recipes.registry import plugin_version
from cellmodel.tl._run.pipeline import RunResult
from cellmodel.tl._run.task import Slot

if TYPE_CHECKING:
    import pandas as pd


def level_slots(key_added: str) -> list[Slot]:
    """Columns of obs with the levels of a tree of clusters, coarsest first."""
    return [("obs", f"{key_added}_level_{level + 1}") for level in range(MOST_LEVELS)]


def embedding_slots(key_added: str) -> list[Slot]:
    """Embedding of the cells and its views."""
    return [("obsm", f"X_{key_added}{view}") for view in ("", "_expr", "_text", "_joint")]


def run_slots(key_added: str, *, with_clusters: bool) -> list[Slot]:
    """Slots that :func:`run_values` fills."""
    embedding = [
        *embedding_slots(key_added),
        ("obsp", f"{key_added}_distances"),
        ("obsp", f"{key_added}_connectivities"),
        ("uns", f"{key_added}_neighbors"),
        ("uns", key_added),
        ("var", f"{key_added}_gene_id"),
    ]
    clusters = [("obs", key_added), ("obs", f"{key_added}_confidence"), *level_slots(key_added)]
    return [*embedding, *clusters, ("uns", f"{key_added}_colors")] if with_clusters else embedding


def run_values(cells: AnyCells, result: RunResult, key_added: str) -> dict[Slot, Any]:
    """Embeddings, graph and record of a run, and its clusters where it has any."""
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
    return {
        **embedding_values(result.representation, key_added),
        ("obsp", f"{key_added}_distances"): result.features.knn,
        ("obsp", f"{key_added}_connectivities"): result.features.graph,
        ("uns", f"{key_added}_neighbors"): neighbors,
        ("uns", key_added): _record(cells, result),
        ("var", f"{key_added}_gene_id"): _gene_ids_of_var(cells, result.alignment),
        **_cluster_values(result, key_added),
    }


def embedding_values(made: Representation, key_added: str) -> dict[Slot, Any]:
    """Embedding of the cells and its views, see :func:`embedding_slots`."""
    return dict(zip(embedding_slots(key_added), (made.z, made.z_expr, made.z_text, made.z_joint), strict=True))


def _cluster_values(result: RunResult, key_added: str) -> dict[Slot, Any]:
    tree = result.explanation.tree
    if result.labels is None or tree is None:
        return {}
    levels = []
    for n_groups in tree.levels():
        groups = [group_name(result.names, group) for group in tree.groups(n_groups)]
        levels.append(named_categories(np.array(tree.group_of(n_groups))[result.labels], groups))
    return {
        ("obs", key_added): named_categories(result.labels, result.names),
        ("obs", f"{key_added}_confidence"): np.asarray(result.explanation.confidence, dtype=np.float32),
        **dict(zip(level_slots(key_added), levels, strict=False)),
        ("uns", f"{key_added}_colors"): [cluster_color(number) for number in range(len(result.names))],
    }


def named_categories(labels: Labels, names: Sequence[str]) -> "pd.Categorical[Any]":
    """Clusters as a column of obs, by their names."""
    import pandas as pd

    return pd.Categorical(np.array(names, dtype=object)[labels], categories=list(names))


def _gene_ids_of_var(cells: AnyCells, alignment: GeneAlignment | None) -> Int[np.ndarray, " var"] | None:
    """GeneID of each row of var, 0 where there is none; by name where the values were those of ``.raw``."""
    if alignment is None:
        return None
    found = np.zeros(cells.adata.n_vars, dtype=np.int64)
    if cells.var_rows is not None:
        found[cells.var_rows] = alignment.gene_ids
        return found
    known = dict(zip(cells.names, alignment.gene_ids.tolist(), strict=True))
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
        **({} if cells.quality is None else {"quality": cells.quality.record(result.labels, result.names)}),
        "history": pd.DataFrame(list(result.representation.history)),
    }
    record["versions"] |= plugin_version(result.config.recipe)
    if result.features.integrated is not None:
        record["versions"] |= integration_version(result.features.integration)
    if result.alignment is not None:
        record |= asdict(result.alignment.lineage)
        coverage = asdict(result.alignment.coverage)
        for name, of in (("by_status", ["status", "n_names"]), ("losses", ["name", "reason"])):
            coverage[name] = pd.DataFrame(coverage[name], columns=[*of, "share_counts"])
        record["coverage"] = coverage | {"share_hvgs": result.share_hvgs}
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
    """Same-batch neighbors of all cells, and of each cluster."""
    return [asdict(row) for row in result.mixing]


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
    found = result.explanation
    return {
        "n_clusters": {
            "n_clusters": int(result.labels.max()) + 1,
            "method": result.n_clusters_by,
            "names": list(result.names),
            **({} if result.structure is None else asdict(result.structure)),
        },
        "knowledge": pd.DataFrame([asdict(row) for row in found.knowledge]),
        "markers": marker_frame(found.markers, names=result.names),
        **({"tree": _tree_record(found.tree, result.labels, result)} if found.tree and found.tree.splits else {}),
        "words": pd.DataFrame(_word_rows(result)),
    }


def _tree_record(tree: Tree, labels: Labels, result: RunResult) -> dict[str, Any]:
    """Keep the splits of the tree, root first, its merges for other programs, and how many groups each level has."""
    import pandas as pd

    sizes, columns = np.bincount(labels), dict[str, Any]()
    for at, side in enumerate(("left", "right")):
        groups = [getattr(split, side) for split in tree.splits]
        columns[side] = [group_name(result.names, group) for group in groups]
        columns[f"n_cells_{side}"] = [int(sizes[list(group)].sum()) for group in groups]
        if result.explanation.split_markers:
            found = [sides[at] for sides in result.explanation.split_markers]
            columns[f"n_markers_{side}"] = [one.n_genes for one in found]
            columns[f"markers_{side}"] = [", ".join(one.names) for one in found]
    columns |= {name: [getattr(split, name) for split in tree.splits] for name in ("height", "support")}
    return {"splits": pd.DataFrame(columns), "linkage": tree.linkage(), "levels": list(tree.levels())}


def _word_rows(result: RunResult) -> list[dict[str, Any]]:
    """One row a word and gene, so that the table stays flat in a file."""
    return [
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
        for entry in result.explanation.words
        for word in entry.words
        for gene in word.genes
    ]
