"""Label transfer from a reference to a query: cells in, classes with their confidence out."""

import logging
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel.annotate.cell_types import UNASSIGNED
from cellmodel.annotate.classify import (
    ClassifyConfig,
    Prediction,
    classify_cells,
    stratified_splits,
    weigh_by_separation,
)
from cellmodel.annotate.shared_genes import GenesBy, TextMatch, joint_features
from cellmodel.cluster.algorithms import cluster_means, kmeans
from cellmodel.core.arrays import Embedding, unit_rows
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import Cells, obs_categories, obs_columns
from cellmodel.io.records import Lineage, check_lineage, lineage_of
from genekb.core.messages import counted

log = logging.getLogger(__name__)
SHARE_BELOW: Final = 0.1  # of the reference's own cells, when they are held out
HELD_OUT, N_SPLITS = 0.2, 5
TOO_FEW_LIMIT: Final = 0.5  # where no two classes have a cell to hold out
TEXT_LIMIT: Final = 0.5  # by text: cells held out of the reference say nothing of how well texts match


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferConfig:
    """How labels are transferred."""

    label_key: str  # column of the reference's obs that holds the labels
    genes_by: GenesBy = "ids"  # how genes of the two sides are matched
    classify: ClassifyConfig = field(default_factory=lambda: ClassifyConfig(unassigned_below=None))
    other_store: bool = False  # whether the labels may have been made with another store


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """Labels transferred to the query."""

    config: RunConfig
    transfer: TransferConfig
    names: tuple[str, ...]  # names of the classes, sorted
    labels: tuple[str, ...]  # class of each cell of the query, by name, or ``unassigned``
    prediction: Prediction  # the same in figures, for the cells of the query
    n_reference: tuple[int, ...]  # labeled cells of each class
    n_unlabeled: int  # cells of the reference without a label, which were left out
    limit: float  # confidence below which a cell is ``unassigned``
    n_genes: int  # shared genes
    note: str  # how they were matched, in words
    reference: str
    lineage: Lineage  # store, and encoder whose vectors matched them; none where they were matched otherwise
    # what the labels of the reference were made with, where that is another store or encoder
    made_with: Lineage | None = None

    @property
    def n_query(self) -> dict[str, int]:
        """Cells of the query by class, those without one last."""
        return {name: self.labels.count(name) for name in (*self.names, UNASSIGNED)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Labeled:
    """Cells of a file that have a label."""

    rows: Int[np.ndarray, " labeled"]  # rows of the cells that have one
    codes: Int[np.ndarray, " labeled"]  # their classes, as positions in ``names``
    names: tuple[str, ...]  # names of the classes, sorted
    n_unlabeled: int  # cells without a label


def read_labels(cells: Cells, label_key: str) -> Labeled:
    """Labels of cells from a column of obs, at least two classes; missing, empty and ``unassigned`` ones are none."""
    hint = "name one with `label_key`"
    values = np.array(obs_columns(cells.adata, [label_key], source=cells.source, hint=hint)[label_key], dtype=np.str_)
    rows = np.flatnonzero((values != "") & (values != UNASSIGNED))
    names, codes = np.unique(values[rows], return_inverse=True)
    if len(names) < 2:  # noqa: PLR2004 - one class leaves nothing to classify
        raise InputUnusable(
            f"column {label_key!r} of {cells.source} names {counted(len(names), 'class', plural='classes')} in "
            f"{counted(len(rows), 'labeled cell')}, 2 are needed; is it the right column?"
        )
    return Labeled(rows=rows, codes=codes, names=tuple(names.tolist()), n_unlabeled=len(values) - len(rows))


def check_apart(known: Labeled, cells: Cells, config: RunConfig, *, label_key: str) -> None:
    """Refuse classes of which each lies in one batch, unless that was allowed."""
    batch = config.batch
    if batch is None or batch.confounded_ok or batch.key not in cells.adata.obs:
        return
    batches = obs_categories(cells.adata, batch.key, source=cells.source)
    if len(batches.names) > 1 and batches.of(known.rows).are_apart(known.codes):
        raise InputUnusable(
            f"{label_key!r} of {cells.source} is confounded with {batch.key!r}: no class has cells of two batches, so "
            "what takes the batches away takes the classes away; leave `batch_key` out, or give confounded_ok=True"
        )


def transfer_labels(
    query: Cells, reference: Cells, kb: genekb.Store, config: RunConfig, *, transfer: TransferConfig
) -> Transfer:
    """Transfer labels of a reference to a query.

    Features are made without labels; what is fitted to labels is fitted to the labeled cells of the reference alone.
    """
    by_text = transfer.genes_by == "text"
    made_with = check_lineage(
        reference, kb, config if by_text else None, key=transfer.label_key, other_store=transfer.other_store
    )
    encoder_id = kb.encoder_id(config.encoder) if by_text else ""
    known = read_labels(reference, transfer.label_key)
    check_apart(known, reference, config, label_key=transfer.label_key)
    joint = joint_features(reference, query, kb, config, genes_by=transfer.genes_by)
    log.info("%s", joint.note)
    limit = transfer.classify.unassigned_below
    if limit is None and by_text:
        limit = TEXT_LIMIT
    elif limit is None:
        limit = held_out_limit(joint.features, known, config=transfer.classify, seed=config.seed)
    features = weigh_by_separation(joint.features, labeled=known.rows, classes=known.codes)
    classify = replace(transfer.classify, unassigned_below=limit)
    found = classify_cells(features, labeled=known.rows, classes=known.codes, config=classify, seed=config.seed)
    start = joint.n_reference
    prediction = Prediction(classes=found.classes[start:], probabilities=found.probabilities[start:])
    if joint.by_text is not None:
        by_cluster = classify_by_text(joint.by_text, labeled=known.rows, classes=known.codes, seed=config.seed)
        prediction = _joined(prediction.probabilities, by_cluster, limit=limit)
    return Transfer(
        config=config,
        transfer=transfer,
        names=known.names,
        labels=tuple(known.names[code] if code >= 0 else UNASSIGNED for code in prediction.classes.tolist()),
        prediction=prediction,
        n_reference=tuple(np.bincount(known.codes).tolist()),
        n_unlabeled=known.n_unlabeled,
        limit=limit,
        n_genes=joint.n_genes,
        note=joint.note,
        reference=reference.source.rsplit("/", 1)[-1],
        lineage=lineage_of(kb, encoder_id),
        made_with=made_with,
    )


def _joined(*readings: Float[np.ndarray, "cell class"], limit: float) -> Prediction:
    """Average probabilities; cells whose best class stays below the limit get none."""
    probabilities = np.mean(readings, axis=0)
    classes = probabilities.argmax(axis=1)
    classes[probabilities.max(axis=1) < limit] = -1
    return Prediction(classes=classes, probabilities=probabilities)


def held_out_limit(features: Embedding, known: Labeled, *, config: ClassifyConfig, seed: int) -> float:
    """Confidence that nine in ten cells of the reference reach when they are held out; 0.5 if none can be held out.

    So the limit follows how far the classes can be separated: near 1 for plain types, low for subtypes.
    """
    try:
        splits = list(stratified_splits(known.codes, share_test=HELD_OUT, n_draws=N_SPLITS, seed=seed))
    except InputUnusable:
        log.info("too few labeled cells to find a limit of confidence; %g is used", TOO_FEW_LIMIT)
        return TOO_FEW_LIMIT
    reached = []
    for split in splits:
        rows, classes = known.rows[split.train], np.unique(known.codes[split.train], return_inverse=True)[1]
        weighed = weigh_by_separation(features, labeled=rows, classes=classes)
        found = classify_cells(weighed, labeled=rows, classes=classes, config=config, seed=seed)
        reached.append(found.confidence[known.rows[split.test]])
    return float(np.quantile(np.concatenate(reached), SHARE_BELOW))


SHARPNESS: Final = 0.025  # temperature of the cosine of two texts
N_ROUNDS: Final = 30  # of Sinkhorn's scaling
RIDGE: Final = 0.1  # of the regression on the profiles of all classes
SURETY: Final = 4.0  # of a class, by standard deviation of its scores over the clusters
_FEWEST, _MOST, _CELLS_EACH = 15, 40, 40  # clusters of the query, and cells of one
_LEAST: Final = 1e-9


def classify_by_text(
    match: TextMatch, *, labeled: Int[np.ndarray, " labeled"], classes: Int[np.ndarray, " labeled"], seed: int
) -> Float[np.ndarray, "cell class"]:
    """Give the cells of each cluster of the query the class whose profile its genes have, by their texts.

    Many weak matches are averaged over a cluster, where cells by themselves are too noisy: each gene of the reference
    is compared with a weighted mean of the query's, whatever their names. The profile of a cluster is explained by
    those of all classes at once (ridge regression), so that near relatives differ by what they do not share.
    ``labeled``, ``classes``: rows of the reference and their classes, 0 .. k-1. Returns probabilities, the same for
    all cells of a cluster.
    """
    n_cells = len(match.query)
    n_clusters = min(_MOST, max(_FEWEST, n_cells // _CELLS_EACH), max(n_cells // 3, 1))
    clusters = kmeans(match.query_features, n_clusters=n_clusters, seed=seed, n_init=2)
    weights = match_weights(match.reference_vectors, match.query_vectors)
    found = _standard(_centered(cluster_means(match.query, clusters)) @ weights.T)
    wanted = _standard(_centered(cluster_means(match.reference[labeled], classes)))
    scores = np.linalg.solve(wanted @ wanted.T + RIDGE * np.eye(len(wanted)), wanted @ found.T)  # (class, cluster)
    scores = (scores - scores.mean(axis=1, keepdims=True)) / (scores.std(axis=1, keepdims=True) + _LEAST)
    chances = np.exp(SURETY * (scores - scores.max(axis=0)))
    return np.asarray((chances / chances.sum(axis=0)).T[clusters], dtype=np.float64)


def match_weights(
    reference: Float[np.ndarray, "gene dim"], query: Float[np.ndarray, "other dim"]
) -> Float[np.ndarray, "gene other"]:
    """Weigh the genes of the query for each of the reference by their texts: shares that sum to 1 a row.

    All genes are matched at once by optimal transport :cite:`cuturi2013sinkhorn`, so that a text that is near to all
    others gets no more than its share of them. Rows of both are of unit length.
    """
    cosine = (reference @ query.T).astype(np.float64)
    kernel = np.exp((cosine - cosine.max()) / SHARPNESS)
    of_gene = np.ones(len(kernel))
    for _ in range(N_ROUNDS):
        of_other = 1 / (of_gene @ kernel)
        of_gene = 1 / (kernel @ of_other)
    return np.asarray(of_gene[:, None] * kernel * of_other)


def _centered(means: Float[np.ndarray, "group gene"]) -> Float[np.ndarray, "group gene"]:
    return np.asarray(means - means.mean(axis=0), dtype=np.float64)


def _standard(profiles: Float[np.ndarray, "group gene"]) -> Float[np.ndarray, "group gene"]:
    """Profiles less their mean, of length one."""
    return unit_rows(profiles - profiles.mean(axis=1, keepdims=True))
