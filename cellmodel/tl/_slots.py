"""Which slot of an AnnData holds which result: written by a run, read back by the report and by later commands."""

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from cellmodel.cluster.n_clusters import Stability
from cellmodel.core.device import describe
from cellmodel.explain.markers import marker_frame
from cellmodel.io.backed import AnyCells
from cellmodel.io.cells import claim_slots
from cellmodel.io.records import input_record
from cellmodel.io.writers import h5ad_safe
from cellmodel.recipes.registry import plugin_version
from cellmodel.text.sentences import AgreementRow, ClusterSentence, SentenceRecord
from cellmodel.tl._run import RunResult

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def result_slots(key_added: str, *, with_clusters: bool = True) -> list[tuple[str, str]]:
    """List the slots that a run writes, so that they can be claimed before any work is done."""
    slots = [
        ("obsm", f"X_{key_added}"),
        ("obsm", f"X_{key_added}_expr"),
        ("obsm", f"X_{key_added}_text"),
        ("obsp", f"{key_added}_distances"),
        ("obsp", f"{key_added}_connectivities"),
        ("uns", f"{key_added}_neighbors"),
        ("uns", key_added),
        ("var", f"{key_added}_gene_id"),
    ]
    return [*slots, ("obs", key_added), ("obs", f"{key_added}_confidence")] if with_clusters else slots


def write_result(cells: AnyCells, result: RunResult, *, key_added: str = "cellmodel", overwrite: bool = False) -> None:
    """Write a run's result into the AnnData that the cells came from; nothing else of it is touched.

    Raises ``SlotTaken`` if a slot exists and ``overwrite`` is not set.
    """
    adata = cells.adata
    claim_slots(adata, result_slots(key_added, with_clusters=result.labels is not None), overwrite=overwrite)
    adata.obsm[f"X_{key_added}"] = result.representation.z
    adata.obsm[f"X_{key_added}_expr"] = result.representation.z_expr
    if result.representation.z_text is not None:
        adata.obsm[f"X_{key_added}_text"] = result.representation.z_text
    elif f"X_{key_added}_text" in adata.obsm:
        del adata.obsm[f"X_{key_added}_text"]
    adata.obsp[f"{key_added}_distances"] = result.features.knn
    adata.obsp[f"{key_added}_connectivities"] = result.features.graph
    adata.uns[f"{key_added}_neighbors"] = {
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
    _write_labels(adata, result, key_added)
    if result.alignment is not None:
        adata.var[f"{key_added}_gene_id"] = _gene_ids_of_var(cells, result.alignment.gene_ids)
    adata.uns[key_added] = h5ad_safe(_record(cells, result))


def _write_labels(adata: "AnnData", result: RunResult, key_added: str) -> None:
    import pandas as pd

    if result.labels is None:
        return
    categories = [str(cluster) for cluster in range(int(result.labels.max()) + 1)]
    adata.obs[key_added] = pd.Categorical(result.labels.astype(str), categories=categories)
    adata.obs[f"{key_added}_confidence"] = np.asarray(result.confidence, dtype=np.float32)


def _gene_ids_of_var(cells: AnyCells, gene_ids: Int[np.ndarray, " gene"]) -> Int[np.ndarray, " var"]:
    """GeneID of each row of var, 0 where there is none; by name where the values were those of ``.raw``."""
    found = np.zeros(cells.adata.n_vars, dtype=np.int64)
    if cells.var_rows is not None:
        found[cells.var_rows] = gene_ids
        return found
    known = dict(zip(cells.names, gene_ids.tolist(), strict=True))
    return np.array([known.get(str(name), 0) for name in cells.adata.var_names], dtype=np.int64)


def _record(cells: AnyCells, result: RunResult) -> dict[str, Any]:
    record: dict[str, Any] = {
        "params": result.config.to_dict(),
        "seed": result.config.seed,
        "recipe": result.config.recipe_name,
        "compute": describe(result.config.compute),
        **input_record(cells),
        "knn_recall": result.features.knn_recall,
        "history": _history_frame(result),
    }
    record["versions"] |= plugin_version(result.config.recipe)
    if result.alignment is not None:
        record["store_id"] = result.alignment.store_id
        record["encoder_id"] = result.alignment.encoder_id
        record["content_id"] = result.alignment.content_id
        record["coverage"] = _coverage_record(result)
    if result.sentences is not None:
        record["sentences"] = _sentence_record(result.sentences)
    if result.text is not None and result.representation.text_head is not None:
        record["joint"] = {
            "text_head": result.representation.text_head,
            "whitening_mean": result.text.whitening.mean,
            "whitening_components": result.text.whitening.components,
        }
    return record | _cluster_record(result)


def _coverage_record(result: RunResult) -> dict[str, Any]:
    import pandas as pd

    if result.alignment is None:
        return {}
    content = asdict(result.alignment.coverage)
    content["by_status"] = pd.DataFrame(content["by_status"], columns=["status", "n_names", "share_counts"])
    content["losses"] = pd.DataFrame(content["losses"], columns=["name", "reason", "share_counts"])
    return content | {"share_hvgs": result.share_hvgs}


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
    curve = list(result.estimate.curve) if result.estimate else []
    return {
        "n_clusters": {
            "n_clusters": int(result.labels.max()) + 1,
            "method": result.n_clusters_by,
            "curve": pd.DataFrame(curve, columns=list(Stability._fields)).astype(float),
        },
        "knowledge": pd.DataFrame([asdict(row) for row in result.knowledge]),
        "markers": marker_frame(result.markers),
        "words": _word_frame(result),
    }


def _word_frame(result: RunResult) -> "pd.DataFrame":
    """One row a word and gene, so that the table stays flat in a file."""
    import pandas as pd

    rows = [
        {
            "cluster": str(entry.cluster),
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


def _history_frame(result: RunResult) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(result.representation.history))
