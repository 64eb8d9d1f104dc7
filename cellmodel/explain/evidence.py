"""Evidence for clusters: markers, exact contributions of genes, themes and enriched sets; as objects and as tables."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel.core.arrays import GeneVectors
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.core.random import generator
from cellmodel.explain.attribution import AttributionTest, standard_differences, test_attribution
from cellmodel.explain.enrichment import EnrichedSet, GeneSet, enrich, read_gmt, stored_gene_sets
from cellmodel.explain.groups import ClusteredCells, Comparison, Contrast, compare_clusters, compare_conditions
from cellmodel.explain.markers import Marker, rank_markers, upregulated
from cellmodel.explain.samples.design import SampleConfig
from cellmodel.explain.samples.markers import SampleContrasts
from cellmodel.explain.terms import permutation_of_texts
from cellmodel.explain.words import NamedTerms, Theme, Word, choose_themes, named_terms, words_by_moments
from cellmodel.io.records import Lineage
from cellmodel.pp.moments import cluster_moments, detected_genes, highly_variable
from cellmodel.pp.text.align import fit_whitening
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.files.replace import Target
from genekb.files.tables import write_table
from genekb.query.name_set import NamedSet, NameSetConfig, name_sets, reading_encoder

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
N_MARKERS: Final = 100  # of a group at most; those that are significant are what enrichment looks at
_MAX_MARKER_P: Final = 0.05  # adjusted p value up to which a gene is a marker for enrichment
_N_THEMES: Final = 8  # of a group at most
_N_SENTENCES: Final = 50  # contributing genes of a group that are reported with a sentence of their text
_NAMED_MARKERS: Final = 50  # strongest markers of a group that are named
N_WORDS: Final = 5  # of a cluster
_LEAST_DRAWS: Final = 200  # random sets


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributeConfig:
    """What is compared, and how much of it is reported."""

    cluster_key: str = "cellmodel"  # column of obs with the clusters
    between: tuple[str, str] | None = None  # two clusters to compare with one another; every one with the rest if None
    condition_key: str | None = None  # column of obs with the conditions to compare inside each cluster
    cluster: str | None = None  # the cluster inside which conditions are compared; each if None
    gmt: tuple[Path, ...] = ()  # files of gene sets
    n_permutations: int = 200  # permutations of the texts; the least p value is 1 / (1 + n)
    other_store: bool = False  # whether the clusters may have been made with another store
    samples: SampleConfig | None = None  # samples as replicates, of the same clusters and conditions; cells if None

    def __post_init__(self) -> None:
        """Check that the choices go together."""
        if self.between is not None and self.condition_key is not None:
            raise ValueError("either two clusters or conditions are compared, not both")
        if self.between is not None and self.samples is not None:
            raise ValueError("two clusters are compared by their cells; leave the samples out, or compare all clusters")
        if self.cluster is not None and self.condition_key is None:
            raise ValueError("a cluster is chosen for its conditions; name their column too")
        if self.n_permutations < 1:
            raise ValueError(f"n_permutations must be >= 1, got {self.n_permutations}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contribution:
    """What a gene contributes to the distance of a group from what it is compared with."""

    name: str  # name, gene_id: the gene
    gene_id: int
    difference: float  # mean expression of the group less that of the others, in standard deviations
    contribution: float  # part of the distance, in its units
    p_value: float  # how often it contributes as much with permuted texts
    term: str  # term, sentence: the highest-scoring term that its text holds, and where; empty past the strongest genes
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupEvidence:
    """Evidence for one group."""

    contrast: Contrast  # which group, and what it is compared with
    # distance, distance_p: of the semantic centroids, and how often it is as long with permuted texts
    distance: float
    distance_p: float
    markers: tuple[Marker, ...]  # best first
    # of every gene that was used: upregulated ones first, largest contribution first, then the others.
    # All add up to the distance
    contributions: tuple[Contribution, ...]
    themes: tuple[Theme, ...]  # highest score first
    enriched: tuple[EnrichedSet, ...]  # smallest p value first
    words: tuple[Word, ...]  # highest score first; of clusters beside all other cells alone
    # name of its significant markers, by their texts; None where no encoder of the store reads names here
    named: NamedSet | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Evidence for every group, and its sources."""

    groups: tuple[GroupEvidence, ...]  # in the order of the clusters, then of the conditions
    symbols: dict[int, str]  # name in the cells of each GeneID
    sources: dict[str, int]  # how many gene sets were looked at, by source
    lineage: Lineage  # whose texts, vectors and gene sets they were
    made_with: Lineage | None = None  # what the clusters were made with, where that is another
    notes: tuple[str, ...] = ()  # on the samples that were compared


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Genes:
    """Genes with a text that are highly variable, or significant markers of any group."""

    columns: Int[np.ndarray, " gene"]
    names: tuple[str, ...]
    gene_ids: tuple[int, ...]
    vectors: GeneVectors
    terms: NamedTerms


def attribute_clusters(
    found: ClusteredCells,
    kb: genekb.Store,
    *,
    config: RunConfig,
    choice: AttributeConfig,
    samples: SampleContrasts | None = None,
    words: Mapping[str, tuple[Word, ...]] | None = None,
) -> Evidence:
    """Find what sets groups of cells apart: markers, contributions of genes, themes and enriched sets.

    Cells are compared in the expression-weighted text view: whitened gene vectors, weighted by z-scored expression. It
    is linear, so the distance of two centroids is an exact sum over genes. ``samples``: comparisons between samples and
    their markers, in place of those between cells; centroids are means over samples then. ``words``: of the clusters by
    name, where a run has found them.
    """
    alignment = found.known
    comparisons, markers = _compared(found, choice, samples)
    stored = stored_gene_sets(kb)
    sets = (*stored, *(one for path in choice.gmt for one in read_gmt(path, kb, use_orthologs=config.use_orthologs)))
    significant = [[marker.gene for marker in upregulated(group, max_p=_MAX_MARKER_P)] for group in markers]
    genes = _genes(found, config=config, stored=stored, markers=significant)
    differences = np.concatenate([_differences(found, one, genes.columns) for one in comparisons], axis=1)
    tested = test_attribution(
        differences,
        genes.vectors,
        texts=permutation_of_texts(genes.terms.presence),
        n_permutations=choice.n_permutations,
        rng=generator(config.seed, "attribution"),
    )
    themes = choose_themes(tested, differences, terms=genes.terms, gene_names=genes.names, n_themes=_N_THEMES)
    ids = alignment.gene_ids
    enriched = enrich([ids[group].tolist() for group in significant], sets, measured=ids[ids > 0].tolist())
    words = _words(found, choice, config) if words is None else words
    named = _name_markers(found, kb, significant, config=config, n_random=choice.n_permutations)
    contrasts = [contrast for one in comparisons for contrast in one.contrasts]
    return Evidence(
        groups=tuple(
            GroupEvidence(
                contrast=contrast,
                distance=float(tested.distances[group]),
                distance_p=float(tested.distance_p[group]),
                markers=markers[group],
                contributions=_contributions(group, differences, tested, genes),
                themes=themes[group],
                enriched=enriched[group],
                words=words.get(contrast.cluster, ())[:N_WORDS],
                named=named[group],
            )
            for group, contrast in enumerate(contrasts)
        ),
        symbols={gene: name for gene, name in zip(ids.tolist(), found.gene_names, strict=True) if gene},
        sources=dict(Counter(one.source for one in sets)),
        lineage=alignment.lineage,
        notes=() if samples is None else samples.notes,
    )


def _genes(
    found: ClusteredCells,
    *,
    config: RunConfig,
    stored: Sequence[GeneSet],
    markers: Sequence[Sequence[int]],
) -> _Genes:
    """Choose the genes, and whiten their vectors."""
    settings, alignment = config.preprocess, found.known
    min_cells = min(settings.min_cells, max(1, len(found.labels) // 10))
    detected = np.flatnonzero(detected_genes(found.expression, min_cells=min_cells))
    if len(detected):
        detected = detected[highly_variable(found.expression[:, detected], n_top=settings.n_top_genes)]
    chosen = np.array(sorted(set(detected.tolist()).union(*markers)), dtype=np.int64)
    columns = chosen[alignment.has_vector[chosen]]
    if len(columns) < 2:  # noqa: PLR2004 - whitening needs two texts
        raise InputUnusable(
            f"{len(columns)} of {len(chosen)} highly variable genes and markers of {found.cells.source} have a text in "
            f"{alignment.lineage.store_id}, 2 are needed; build the store for more genes"
        )
    vectors = alignment.vectors[columns]
    gene_ids = tuple(alignment.gene_ids[columns].tolist())
    texts = [alignment.texts[column] or "" for column in columns]
    return _Genes(
        columns=columns,
        names=tuple(found.gene_names[column] for column in columns),
        gene_ids=gene_ids,
        vectors=fit_whitening(vectors, rank=config.semantics.rank)(vectors),
        terms=named_terms(texts, gene_ids=gene_ids, gene_sets=stored, split=alignment.split, cite=alignment.cite),
    )


def _name_markers(
    found: ClusteredCells,
    kb: genekb.Store,
    markers: Sequence[Sequence[int]],
    *,
    config: RunConfig,
    n_random: int,
) -> tuple[NamedSet | None, ...]:
    """Name the marker genes of each group by phrases of their texts, see :func:`genekb.query.name_set.name_sets`.

    Random sets are drawn from the measured genes, with as many of each tenth of mean expression. Names are read by the
    run's encoder if it was fitted on the store's texts, else by the first that was, else by the run's, else by the
    first that reads. None for each group where none does.

    ``markers``: genes of each group, strongest first.
    """
    ids = found.known.gene_ids
    measured = np.flatnonzero(ids > 0)
    sets = {str(group): ids[list(genes)[:_NAMED_MARKERS]] for group, genes in enumerate(markers)}
    expression = np.asarray(found.expression.mean(axis=0)).ravel()[measured]
    try:
        own = kb.encoder_id(config.encoder)
        reads_names = [each for each in (own, *kb.encoder_ids) if kb.manifest.kind(each).is_fitted]
        if not reads_names:
            reads_names = [reading_encoder(kb) if kb.manifest.kind(own).not_searched else own]
        named = name_sets(
            kb,
            {group: genes[genes > 0] for group, genes in sets.items()},
            vocabulary="phrases",
            universe=ids[measured],
            expression=expression.tolist(),
            encoder=reads_names[0],
            config=NameSetConfig(n_random=max(n_random, _LEAST_DRAWS), seed=abs(config.seed)),
        )
    except (NotAvailable, SourceUnusable) as error:
        log.info("marker genes are not named: %s", error)
        return tuple(None for _ in markers)
    symbols = {gene: found.gene_names[column] for column, gene in enumerate(ids.tolist()) if gene > 0}
    return tuple(
        replace(
            one,
            theme=tuple(replace(gene, name=symbols[gene.gene_id]) for gene in one.theme),
            others=tuple(symbols[int(gene)] for gene in one.others),
        )
        for one in named.sets
    )


def _words(found: ClusteredCells, choice: AttributeConfig, config: RunConfig) -> dict[str, tuple[Word, ...]]:
    """Words of the clusters by name, where these are compared with all other cells."""
    if choice.between or choice.condition_key or choice.samples:
        return {}
    words = words_by_moments(
        *cluster_moments(found.expression, found.labels),
        texts=found.known.texts,
        gene_names=found.gene_names,
        n_words=N_WORDS,
        n_permutations=choice.n_permutations,
        seed=config.seed,
        split=found.known.split,
        cite=found.known.cite,
    )
    return {found.names[one.cluster]: one.words for one in words}


def _differences(
    found: ClusteredCells, comparison: Comparison, columns: Int[np.ndarray, " gene"]
) -> Float[np.ndarray, "gene group"]:
    expression = found.expression[comparison.rows][:, columns]
    every = standard_differences(expression, comparison.labels, samples=comparison.samples)
    return every[:, [contrast.group for contrast in comparison.contrasts]]


def _compared(
    found: ClusteredCells, choice: AttributeConfig, samples: SampleContrasts | None
) -> tuple[tuple[Comparison, ...], list[tuple[Marker, ...]]]:
    """Comparisons, and the markers of each of their contrasts."""
    if samples is not None:
        return samples.comparisons, list(samples.markers)
    if choice.condition_key is None:
        comparisons = compare_clusters(found, between=choice.between)
    else:
        comparisons = compare_conditions(found, condition_key=choice.condition_key, cluster=choice.cluster)
    markers = []
    for one in comparisons:
        tables = rank_markers(found.expression[one.rows], one.labels, gene_names=found.gene_names, n_top=N_MARKERS)
        markers += [tables[contrast.group].markers for contrast in one.contrasts]
    return comparisons, markers


def _contributions(
    group: int,
    differences: Float[np.ndarray, "gene group"],
    tested: AttributionTest,
    genes: _Genes,
) -> tuple[Contribution, ...]:
    difference, contribution = differences[:, group], tested.contributions[:, group]
    order = np.lexsort((np.arange(len(difference)), -contribution, difference <= 0)).tolist()
    found = []
    for rank, gene in enumerate(order):
        term = genes.terms.best_term(gene, tested.terms.score[:, group]) if rank < _N_SENTENCES else None
        found.append(
            Contribution(
                name=genes.names[gene],
                gene_id=genes.gene_ids[gene],
                difference=float(difference[gene]),
                contribution=float(contribution[gene]),
                p_value=float(tested.gene_p[gene, group]),
                term="" if term is None else genes.terms.label(term),
                sentence="" if term is None else genes.terms.sentence(gene, term),
            )
        )
    return tuple(found)


_COLUMNS: Final = {
    "groups": "n_cells n_against distance distance_p n_genes name name_p",
    "markers": "gene t p_value p_adjusted log2_fold_change fraction_in fraction_out mean_in mean_out",
    "contributions": "gene gene_id difference contribution share p_value term sentence",
    "themes": "theme source also share score p_value p_adjusted n_genes gene contribution sentence",
    "words": "term score p_value p_adjusted n_genes gene contribution sentence",
    "names": "name reason p_value z n_markers gene gene_id gene_p sentence",
    "enrichment": "set set_id source p_value p_adjusted fold n_shared n_set n_group n_measured genes",
}
FILES: Final = tuple(_COLUMNS)[1:]
Row = dict[str, Any]


def evidence_frames(evidence: Evidence) -> "dict[str, pd.DataFrame]":
    """Flat tables, ``groups`` and :data:`FILES`; each row has its cluster, condition and what it is compared with."""
    import pandas as pd

    rows: dict[str, list[Row]] = {name: [] for name in _COLUMNS}
    for group in evidence.groups:
        contrast = {key: getattr(group.contrast, key) for key in ("cluster", "condition", "against")}
        for name, of_group in _rows(group, evidence.symbols).items():
            rows[name] += [contrast | row for row in of_group]
    return {
        name: pd.DataFrame(rows[name], columns=["cluster", "condition", "against", *columns.split()])
        for name, columns in _COLUMNS.items()
    }


def _flat(row: Any) -> Row:
    """Values of a dataclass by their names; what is nested stays as it is."""
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def _rows(group: GroupEvidence, symbols: dict[int, str]) -> dict[str, list[Row]]:
    """Rows of each table; what is in them beside its columns is left out."""
    sizes = {"n_cells": group.contrast.n_cells, "n_against": group.contrast.n_against}
    distance = {"distance": group.distance, "distance_p": group.distance_p, "n_genes": len(group.contributions)}
    name = {"name": group.named.name, "name_p": group.named.p_value} if group.named else {"name": "", "name_p": None}
    return {
        "groups": [sizes | distance | name],
        "markers": [_flat(marker) | {"gene": marker.name} for marker in group.markers],
        "contributions": [
            _flat(gene) | {"gene": gene.name, "share": gene.contribution / group.distance if group.distance else 0.0}
            for gene in group.contributions
        ],
        "themes": [
            _flat(theme) | {"theme": theme.term, "also": ", ".join(theme.also)} | _flat(gene) | {"gene": gene.name}
            for theme in group.themes
            for gene in theme.genes
        ],
        "words": [_flat(word) | _flat(gene) | {"gene": gene.name} for word in group.words for gene in word.genes],
        "names": _name_rows(group.named) if group.named else [],
        "enrichment": [
            {"set": one.gene_set.name, "set_id": one.gene_set.set_id, "source": one.gene_set.source}
            | {name: getattr(one, name) for name in ("p_value", "p_adjusted", "fold", "n_set", "n_group", "n_measured")}
            | {"n_shared": len(one.gene_ids), "genes": ", ".join(symbols[gene] for gene in one.gene_ids)}
            for one in group.enriched
        ],
    }


def _name_rows(named: NamedSet) -> list[Row]:
    """Give a row for each gene that carries the theme; one where there is none."""
    common = {"name": named.name, "reason": named.reason, "p_value": named.p_value}
    common |= {"z": named.names[0].z if named.name else None, "n_markers": len(named.theme) + len(named.others)}
    genes = [
        {"gene": gene.name, "gene_id": gene.gene_id, "gene_p": gene.p_value, "sentence": gene.sentence}
        for gene in named.theme
    ]
    return [common | gene for gene in genes or [{"gene": "", "gene_id": 0, "gene_p": None, "sentence": ""}]]


def table_targets(folder: Path) -> list[Target]:
    """Targets of the tables and of their folder, for :func:`cellmodel.io.writers.check_targets`."""
    return [Target(folder, kind="shared"), *(Target(folder / f"{name}.tsv") for name in FILES if folder.is_dir())]


def write_tables(evidence: Evidence, folder: Path, *, overwrite: bool = False) -> None:
    """Write a ``.tsv`` for each of :data:`FILES`; the folder is made."""
    frames = evidence_frames(evidence)
    folder.mkdir(exist_ok=True)
    for name in FILES:
        path, frame = folder / f"{name}.tsv", frames[name]
        write_table(path, list(frame.columns), frame.itertuples(index=False), overwrite=overwrite)
