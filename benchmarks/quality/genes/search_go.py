"""Search by the names of GO terms: nDCG@20 of their genes, by mode.

    python -m benchmarks.quality.genes.search_go --kb human best [--mouse mouse] --output results

The saturation of BM25 and the weights of the sum were chosen on the even queries (A); the odd ones (B) report.

Needs ``knowledge/gene2go.gz`` and ``knowledge/go-basic.obo.gz`` of GENEKB_TEST_DATA. The queries are 200 names of
biological processes with 10 to 200 human genes, drawn by a seed; a gene is relevant that has the term or a descendant.
``--mouse``: stores of mouse, where the orthologs of the relevant genes are relevant, beside the hits in the first of
``--kb`` as their orthologs.

Annotations are not in the text, but their curators wrote both: read differences between stores, not the level.
"""

import gzip
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import genekb
from benchmarks.lib.protocol import command_line, finish, markdown
from genekb.core.errors import NotAvailable
from genekb.sources.gene_terms import add_gene_terms
from genekb.sources.ncbi_bulk import read_ncbi_folder

N_QUERIES, TOP, N_GENES = 200, 20, (10, 200)
MODES = ("hybrid", "semantic", "keyword")
Row = tuple[str, str, float, float, float]


def queries(data: Path) -> dict[str, set[int]]:
    """Genes of the terms that are asked for, by name."""
    files = [data / "knowledge" / name for name in ("gene2go.gz", "go-basic.obo.gz")]
    terms = add_gene_terms(read_ncbi_folder(data / "ncbi" / "2022-11", taxa=["human"]), files).terms["go"]
    genes: dict[str, set[int]] = {}
    for gene_id, term in zip(terms["gene_id"].to_pylist(), terms["term"].to_pylist(), strict=True):
        genes.setdefault(term, set()).add(gene_id)
    with gzip.open(files[1], "rt", encoding="utf-8") as stream:
        stanza = re.compile(r"id: (GO:\d+)\nname: (.+)\nnamespace: biological_process")
        names = dict(stanza.findall(stream.read()))
    known = sorted(term for term in names if N_GENES[0] <= len(genes.get(term, ())) <= N_GENES[1])
    chosen = np.random.default_rng(0).choice(known, N_QUERIES, replace=False)
    return {names[term]: genes[term] for term in chosen}


def ndcg(found: list[int], relevant: set[int]) -> float:
    """Discounted gain of the first genes, of the largest that there can be."""
    weights = 1 / np.log2(np.arange(2, TOP + 2))
    gains = np.array([gene in relevant for gene in found[:TOP]], dtype=float)
    return float(gains @ weights[: len(gains)] / weights[: min(TOP, len(relevant))].sum())


def search(kb: genekb.Store, query: str, mode: str) -> list[int]:
    """GeneIDs of the first hits; none for a query of which the store knows no word."""
    try:
        return [hit.gene_id for hit in kb.search(query, mode=mode, limit=TOP).hits]
    except NotAvailable:
        return []


def orthologs(mouse: genekb.Store) -> dict[int, int]:
    """Give the first mouse gene of each human gene."""
    pairs = mouse.table("orthologs").select(["ortholog_gene_id", "gene_id"]).to_pydict()
    return dict(zip(reversed(pairs["ortholog_gene_id"]), reversed(pairs["gene_id"]), strict=True))


def rows_of_mouse(human: genekb.Store, stores: list[str], asked: dict[str, set[int]]) -> Iterator[Row]:
    """Scores of mouse stores, and of the human hits as mouse genes."""
    mouse_of = orthologs(genekb.open(stores[0]))
    relevant = {name: {mouse_of[gene] for gene in genes & mouse_of.keys()} for name, genes in asked.items()}
    relevant = {name: genes for name, genes in relevant.items() if genes}
    for name in stores:
        yield scored(genekb.open(name), "hybrid", relevant)
    hits = ([mouse_of[gene] for gene in search(human, name, "hybrid") if gene in mouse_of] for name in relevant)
    scores = [ndcg(found, genes) for found, genes in zip(hits, relevant.values(), strict=True)]
    yield row_of(f"{human.store_id}, hits as orthologs", "hybrid", scores)


def scored(kb: genekb.Store, mode: str, relevant: dict[str, set[int]]) -> Row:
    """Scores of one mode of a store, over all queries and either half."""
    return row_of(kb.store_id, mode, [ndcg(search(kb, query, mode), genes) for query, genes in relevant.items()])


def row_of(name: str, mode: str, scores: list[float]) -> Row:
    """Means over all queries and either half."""
    return name, mode, *(float(np.mean(part)) for part in (scores, scores[::2], scores[1::2]))


def main() -> int:
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--kb", nargs="+", default=["human"])
    parser.add_argument("--mouse", nargs="*", default=[])
    options = parser.parse_args()
    asked = queries(Path(os.environ["GENEKB_TEST_DATA"]))
    stores = [genekb.open(name) for name in options.kb]
    rows = [scored(kb, mode, asked) for kb in stores for mode in MODES]
    if options.mouse:
        rows += rows_of_mouse(stores[0], options.mouse, asked)
    lines = [f"# Search by names of GO terms, nDCG@{TOP}", "", *markdown(("store", "mode", "all", "A", "B"), rows)]
    return finish(options.output, "search_go", rows, lines=lines, bars=[])


if __name__ == "__main__":
    sys.exit(main())
