"""Labeled sets for names: cells, clusters, what is right for each label (`type_names.toml`), and controls."""

import argparse
import hashlib
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

import genekb
from benchmarks.lib.protocol import DataSet, command_line, data_folder, load_datasets, values_of
from cellmodel.annotate.cell_types import QueriedCells, known_genes
from cellmodel.core.config import RunConfig
from cellmodel.core.random import generator
from cellmodel.io.cells import ReadConfig, obs_columns, read_cells
from cellmodel.pp.features import make_features
from cellmodel.pp.moments import highly_variable
from cellmodel.pp.normalize import log_expression
from cellmodel.pp.text.align import align_cells
from cellmodel.tl._run.pipeline import run
from genekb.genes.texts import find_template

MORE_SETS = {  # of names alone: species
    "scrna/lymph_ref_330": "human",
    "scrna/eccite_pbmc": "human",
    "scrna/jaitin_spleen_sorted": "mouse",
    "scrna/baron_human_hvg2000": "human",
    "scrna/mca_gut_1871": "mouse",
    "scrna/endocrinogenesis_3696_hvg2000": "mouse",
    "scrna/romanov_hypothalamus": "mouse",
    "scrna/marrow_stroma_250": "mouse",
    "scrna/pollen2015_glia": "human",
    "batches/kang_2donors_ctrl_stim": "human",
    "batches/panc8_500": "human",
    "batches/pbmc_10x_3chemistries": "human",
}
WITHOUT_TEXT = RunConfig(knowledge="none", n_words=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class TruthOfSet:
    """A set with its labels, our clusters, and what is right for each label."""

    data: DataSet
    cells: Any
    labels: np.ndarray
    clusters: np.ndarray
    graph: sp.csr_matrix
    right: dict[str, list[str]]


def half(name: str) -> str:
    """Half that a set is in, by a hash of the study that its name begins with: sets of one study are never parted."""
    return "AB"[hashlib.sha256(name.split("_", maxsplit=1)[0].encode()).digest()[-1] % 2]


def command_line_of_names(about: str) -> argparse.ArgumentParser:
    """Arguments of every benchmark that opens stores by :func:`open_stores`."""
    parser = command_line(about)
    parser.add_argument("--template", default="designations", help="Template of the stores, where they are built.")
    return parser


def open_stores(
    options: argparse.Namespace, encoders: Sequence[str], *, taxa: Sequence[str] = ("human", "mouse")
) -> dict[str, genekb.Store]:
    """Open the stores of the species that hold the encoders, or build them."""
    home, stores = options.home or options.output / "home", {}
    for taxon in taxa:
        try:
            store = genekb.open(taxon, home=home)
            for encoder in encoders:
                store.encoder_id(encoder)
        except genekb.core.errors.NotAvailable:
            source = genekb.read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=[taxon])
            config = genekb.BuildConfig(
                name=taxon, models=tuple(encoders), genes="protein-coding", template=find_template(options.template)
            )
            store = genekb.open(genekb.build(source, config, home=home).folder)
        stores[taxon] = store
    return stores


def more_sets() -> list[DataSet]:
    """List the sets on which names alone are scored."""
    files = {data_folder() / f"{path}.h5ad": taxon for path, taxon in MORE_SETS.items()}
    return [
        DataSet(name=path.stem, path=path, taxon=taxon, label_key="cell_type", labels="", study=False)
        for path, taxon in files.items()
    ]


def named_sets(
    sets: Sequence[DataSet] | None = None, *, cache: Path | None = None, with_clusters: bool = True
) -> Iterator[TruthOfSet]:
    """Read the sets of `type_names.toml`, and cluster each by `fused` with the number of clusters estimated.

    ``cache``: folder where clusters and graphs are kept for the next run. Without clusters the graph is that of the
    same features.
    """
    right = tomllib.loads(Path(__file__).with_name("type_names.toml").read_text())
    for data in load_datasets() if sets is None else sets:
        if data.name not in right:
            continue
        cells = read_cells(data.path, ReadConfig(values=values_of(data.name)))
        if with_clusters:
            clusters, graph = clusters_of(cells, cache and cache / data.name)
        else:
            clusters, graph = np.empty(0, dtype=np.int64), make_features(cells, WITHOUT_TEXT).graph
        yield TruthOfSet(
            data=data,
            cells=cells,
            labels=np.array(obs_columns(cells.adata, [data.label_key], source=data.name)[data.label_key]),
            clusters=clusters,
            graph=graph,
            right=right[data.name],
        )


def clusters_of(cells: Any, kept: Path | None) -> tuple[np.ndarray, sp.csr_matrix]:
    """Cluster cells, or read what an earlier run has kept."""
    if kept is not None and kept.with_suffix(".graph.npz").exists():
        return np.load(kept.with_suffix(".npy")), sp.load_npz(kept.with_suffix(".graph.npz"))
    found = run(cells, None, WITHOUT_TEXT)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept.with_suffix(".npy"), np.asarray(found.labels))
        sp.save_npz(kept.with_suffix(".graph.npz"), found.features.graph)
    return np.asarray(found.labels), found.features.graph


def most_variable(truth: TruthOfSet, n_genes: int) -> TruthOfSet:
    """Keep the most variable genes of those seen in three cells."""
    expression = log_expression(truth.cells)
    seen = np.flatnonzero(np.bincount(expression.indices[expression.data > 0], minlength=expression.shape[1]) > 2)
    kept = seen[highly_variable(expression[:, seen], n_top=n_genes)]
    names = tuple(truth.cells.names[column] for column in kept.tolist())
    return replace(truth, cells=replace(truth.cells, matrix=truth.cells.matrix[:, kept], names=names))


def known_cells(truth: TruthOfSet, store: genekb.Store, encoder: str) -> QueriedCells:
    """Align a set with a store."""
    alignment = align_cells(truth.cells, store, RunConfig(encoder=encoder))
    return known_genes(log_expression(truth.cells), truth.cells.names, alignment)


def with_vectors(known: QueriedCells, gene_ids: np.ndarray, vectors: np.ndarray) -> QueriedCells:
    """Give genes other vectors; a gene without one has none then."""
    order = np.argsort(gene_ids)
    place = np.searchsorted(gene_ids[order], known.alignment.gene_ids).clip(max=len(gene_ids) - 1)
    has_vector = gene_ids[order][place] == known.alignment.gene_ids
    given = np.where(has_vector[:, None], vectors[order][place], 0).astype(np.float32)
    return replace(known, alignment=replace(known.alignment, vectors=given, has_vector=has_vector))


def dealt(weights: sp.csr_matrix, deal: int) -> sp.csr_matrix:
    """Permute the genes."""
    return weights.tocsc()[:, generator(deal, "permuted genes").permutation(weights.shape[1])].tocsr()
