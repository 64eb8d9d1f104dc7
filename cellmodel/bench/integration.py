"""Integration of batches scored as the field does: the metrics of scIB, by `scib-metrics`; true labels enter here."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellmodel.bench.metrics import Scores, score_columns
from cellmodel.core.arrays import Embedding
from cellmodel.core.config import GraphConfig, RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import (
    Cells,
    ObsCategories,
    obs_categories,
    obs_columns,
    obsm_embedding,
)
from cellmodel.pp.features import make_features
from cellmodel.pp.neighbors import approximate_search, exact_search
from genekb.core.messages import counted
from genekb.core.plugins import require

if TYPE_CHECKING:
    from scib_metrics.nearest_neighbors import NeighborsResults

BIO: Final = ("isolated_labels", "kmeans_nmi", "kmeans_ari", "silhouette_label", "clisi")
BATCH: Final = ("bras", "ilisi", "kbet", "graph_connectivity", "pcr_comparison")
BIO_WEIGHT: Final = 0.6  # of Luecken 2022; the rest is that of batch correction
UNINTEGRATED: Final = "PCA, not integrated"
HARMONY: Final = "PCA, Harmony"
# Nearest cells, each with itself, for LISI, kBET and connectivity: the field's numbers, at most a tenth of the cells
_LISI, _KBET, _CONNECTED, _TENTH = 90, 50, 15, 10
_LEAST_NEAREST: Final = 3  # fewer give LISI no perplexity


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegrationScores:
    """Scores of one embedding; 1 is best."""

    embedding: str
    overall: float  # .6 bio + .4 batch
    bio: float  # mean of the metrics of bio conservation
    batch: float  # mean of the metrics of batch correction
    metrics: Mapping[str, float | None]  # each of ``BIO`` and ``BATCH``; None where the cells do not define it


def require_scib() -> None:
    """Raise ``NotAvailable`` if `scib-metrics` is not installed."""
    require("scib_metrics", needed_by="scores of integrated batches need")


def score_integration(
    embeddings: Mapping[str, Embedding], *, y_true: Sequence[str], batches: Sequence[str], before: Embedding
) -> list[IntegrationScores]:
    """Score embeddings of the same cells by the metrics of scIB :cite:`luecken2022benchmarking`.

    Bio conservation and batch correction are means of five metrics each, those of `scib-metrics`, with its BRAS in
    place of the silhouette by batch. The nearest cells are searched exactly up to 50,000 cells, and k-means has a
    fixed seed. kBET's eigenvectors start at random inside SciPy, which may move its score a little.

    ``before``: components that nothing integrated, with which the
    variance that the batches explain is compared. Raises ``NotAvailable`` without `scib-metrics`; ``InputUnusable`` if
    there are too few cells, one type or one batch.
    """
    require_scib()
    labels, groups = np.asarray(y_true), np.asarray(batches)
    for what, values in (("cell type", labels), ("batch", groups)):
        if len(np.unique(values)) < 2:  # noqa: PLR2004 - one leaves nothing to compare
            raise InputUnusable(f"the {counted(len(values), 'labeled cell')} have one {what}; two are needed to score")
    if len(labels) // _TENTH < _LEAST_NEAREST:
        least = _LEAST_NEAREST * _TENTH
        raise InputUnusable(
            f"{counted(len(labels), 'labeled cell')} are too few for scIB's metrics; {least} are needed"
        )
    found = []
    for name, z in embeddings.items():
        metrics = _metrics(_single(z), labels, groups, _single(before))
        bio, batch = (
            float(np.mean([value for each in names if (value := metrics[each]) is not None])) for names in (BIO, BATCH)
        )
        overall = BIO_WEIGHT * bio + (1 - BIO_WEIGHT) * batch
        found.append(IntegrationScores(embedding=name, overall=overall, bio=bio, batch=batch, metrics=metrics))
    return found


def _single(z: Embedding) -> Embedding:
    return np.ascontiguousarray(z, dtype=np.float32)


def _metrics(z: Embedding, labels: np.ndarray, groups: np.ndarray, before: Embedding) -> dict[str, float | None]:
    """All metrics of one embedding."""
    with warnings.catch_warnings():  # of its own imports, and that a batch explains more than before
        warnings.simplefilter("ignore")
        import scib_metrics as scib

        logging.getLogger("scib_metrics").setLevel(logging.ERROR)  # else it writes to stdout
        wide, middle, narrow = _nearest(z)
        clusters = scib.nmi_ari_cluster_labels_kmeans(z, labels)
        found: dict[str, Any] = {
            "isolated_labels": scib.isolated_labels(z, labels, groups),
            "kmeans_nmi": clusters["nmi"],
            "kmeans_ari": clusters["ari"],
            "silhouette_label": scib.silhouette_label(z, labels),
            "clisi": scib.clisi_knn(wide, labels),
            "bras": scib.bras(z, labels, groups),
            "ilisi": scib.ilisi_knn(wide, groups),
            "kbet": scib.kbet_per_label(middle, groups, labels),
            "graph_connectivity": scib.graph_connectivity(narrow, labels),
            "pcr_comparison": scib.pcr_comparison(before, z, groups, categorical=True),
        }
    return {name: float(value) if np.isfinite(value) else None for name, value in found.items()}


def _nearest(z: Embedding) -> Iterator["NeighborsResults"]:
    """Nearest cells for LISI, for kBET and for connectivity."""
    from scib_metrics.nearest_neighbors import NeighborsResults

    wide = min(_LISI, len(z) // _TENTH)
    points = z.astype(np.float64)
    if len(z) <= GraphConfig().exact_up_to:
        squared, nearest = exact_search(points, points, n_neighbors=wide)
    else:
        squared, nearest = approximate_search(points, n_neighbors=wide)
    distances = np.sqrt(np.maximum(squared, 0)).astype(np.float32)
    for width in (wide, min(_KBET, wide), min(_CONNECTED, wide)):
        yield NeighborsResults(indices=nearest[:, :width], distances=distances[:, :width])


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegrationReport:
    """What the labels say of a file of several batches."""

    clusters: Scores | None  # of its clusters; None where it holds none of that name
    embeddings: tuple[IntegrationScores, ...]


def score_batches(
    cells: Cells, *, truth: str, pred: str, batch_key: str, use_rep: Sequence[str], confounded_ok: bool
) -> IntegrationReport:
    """Score the embeddings of cells beside their components, as they are and by plain Harmony; see `cm.bench.eval`.

    The clusters in ``pred`` are scored with the embeddings of the same run, and ``X_pca``, where the cells have them.
    Cells without a label are left out. Raises ``InputUnusable`` if a column or an embedding is missing, or types and
    batches are confounded.
    """
    columns = obs_columns(cells.adata, (truth, pred) if pred in cells.adata.obs else (truth,), source=cells.source)
    batches = obs_categories(cells.adata, batch_key, source=cells.source)
    labels = np.array(columns[truth])
    rows = np.flatnonzero(labels != "")
    types, own = np.unique(labels[rows], return_inverse=True)
    if min(len(types), len(batches.names)) > 1 and batches.of(rows).are_apart(own) and not confounded_ok:
        raise InputUnusable(
            f"{truth!r} is confounded with {batch_key!r}: no type has cells of two batches, so what mixes the batches "
            "mixes the types; confounded_ok=True scores them all the same"
        )
    shown = [name for name in cells.adata.obsm if name in {"X_pca", f"X_{pred}"} or name.startswith(f"X_{pred}_")]
    stored = {
        name: obsm_embedding(cells.adata, name, source=cells.source) for name in dict.fromkeys([*shown, *use_rep])
    }
    scores = score_beside_rivals(cells, stored, labels=labels, batches=batches)
    clusters = score_columns(columns, truth, pred, source=cells.source) if pred in columns else None
    return IntegrationReport(clusters=clusters, embeddings=tuple(scores))


def score_beside_rivals(
    cells: Cells, embeddings: Mapping[str, Embedding], *, labels: np.ndarray, batches: ObsCategories
) -> list[IntegrationScores]:
    """Score embeddings after the cells' principal components, as they are and integrated by plain Harmony.

    ``labels``: of all cells, empty for those that are left out. Raises as :func:`score_integration`.
    """
    pcs = make_features(cells, RunConfig(knowledge="none")).pcs
    every = {UNINTEGRATED: pcs, HARMONY: plain_harmony(pcs, batches.codes), **embeddings}
    rows = np.flatnonzero(labels != "")
    return score_integration(
        {name: z[rows] for name, z in every.items()},
        y_true=labels[rows].tolist(),
        batches=np.array(batches.names)[batches.codes[rows]].tolist(),
        before=pcs[rows],
    )


def plain_harmony(pcs: Embedding, batches: np.ndarray, *, seed: int = 0) -> Embedding:
    """Principal components integrated by Harmony with its own settings; ``batches``: of the cells, names or numbers."""
    from harmonypy import run_harmony

    found = run_harmony(pcs.astype(np.float64), {"batch": batches}, "batch", verbose=False, random_state=seed, ncores=1)
    return np.asarray(found.Z_corr, dtype=np.float32)
