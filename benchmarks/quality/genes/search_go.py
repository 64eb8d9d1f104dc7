"""Search by the names of GO terms: nDCG@20 of their genes, by mode.

    python -m benchmarks.quality.genes.search_go --kb human best --output results

BM25's two constants were chosen on the even queries (A); the odd ones (B) report.

Needs ``knowledge/gene2go.gz`` and ``knowledge/go-basic.obo.gz`` of GENEKB_TEST_DATA. The queries are 200 names of
biological processes with 10 to 200 human genes, drawn by a seed; a gene is relevant that has the term or a descendant.
Annotations are not in the text, but their curators wrote both: read differences between stores, not the level.
"""

import gzip
import os
import re
import sys
from pathlib import Path

import numpy as np

import genekb
from benchmarks.lib.protocol import command_line, finish, markdown
from genekb.core.errors import NotAvailable
from genekb.sources.gene_terms import add_gene_terms
from genekb.sources.ncbi_bulk import read_ncbi_folder

N_QUERIES, TOP, N_GENES = 200, 20, (10, 200)
MODES = ("hybrid", "semantic", "keyword")


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


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--kb", nargs="+", default=["human"])
    options = parser.parse_args()
    asked = queries(Path(os.environ["GENEKB_TEST_DATA"]))
    rows = []
    for name in options.kb:
        kb = genekb.open(name)
        for mode in MODES:
            scores = [ndcg(search(kb, query, mode), genes) for query, genes in asked.items()]
            rows.append((kb.store_id, mode, *(float(np.mean(part)) for part in (scores, scores[::2], scores[1::2]))))
    lines = [f"# Search by names of GO terms, nDCG@{TOP}", "", *markdown(("store", "mode", "all", "A", "B"), rows)]
    return finish(options.output, "search_go", rows, lines=lines, bars=[])


if __name__ == "__main__":
    sys.exit(main())
