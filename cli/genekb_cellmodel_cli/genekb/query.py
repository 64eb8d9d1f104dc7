"""Commands of `genekb` that look things up in a store: search, resolve, sql."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import Columns, note, show, table


def search(
    query: Annotated[str, typer.Argument(help="Free text, or a name of a gene.")],
    store: options.Store,
    encoder: options.Encoders = None,
    mode: Annotated[
        Literal["hybrid", "semantic", "keyword"], typer.Option(help="By meaning, by words, or by both.")
    ] = "hybrid",
    limit: Annotated[int, typer.Option(help="How many genes.", min=1)] = 10,
    gene_type: Annotated[
        str | None, typer.Option("--type", help="Only genes of this type, e.g. protein-coding.")
    ] = None,
    tax_id: Annotated[int | None, typer.Option(help="Only genes of this NCBI taxonomy id.")] = None,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Find genes by free text: by the meaning of their texts, by the words in them, or by both.

    Example: genekb search --kb human "T cell receptor signalling"
    """
    from genekb.query.search import search_genes

    if mode == "keyword" and encoder:
        raise typer.BadParameter("a keyword search uses no encoder; leave out --encoder or --mode keyword")
    kb = store.open(trust_remote_code=trust_remote_code)
    result = search_genes(kb, query, encoders=encoder, mode=mode, limit=limit, taxon=tax_id, gene_type=gene_type)
    for name, reason in result.skipped.items():
        note(f"not used: {name}: {reason}")
    columns: Columns = {
        result.score: "score:.4f",
        "gene_id": "gene_id:d",
        "symbol": "symbol",
        "words": "matched_words",
        "text": lambda hit: hit.text[:100],
    }
    show({"query": query, **asdict(result)}, table(columns, result.hits), json=json)


def resolve(
    path: Annotated[Path, typer.Argument(help="Cell file (h5ad, 10x, ...) or a text file with one name a line.")],
    store: options.Store,
    orthologs: options.Orthologs = False,
    min_coverage: options.MinCoverage = 0.0,
    gene_key: options.GeneKey = None,
    json: options.Json = False,
) -> None:
    """Report how many genes of a file, and what share of its counts, a store knows.

    Example: genekb resolve cells.h5ad --kb human --min-coverage 0.8
    """
    from cellmodel.io.gene_names import read_gene_totals
    from genekb.core.errors import CoverageTooLow

    kb = store.open()
    names, totals = read_gene_totals(path, gene_key=gene_key)
    resolution = kb.resolve(names, use_orthologs=orthologs)
    coverage = kb.coverage(resolution, counts=totals)
    lines = [
        f"{coverage.n_resolved:,} of {coverage.n_names:,} names map to one gene of {kb.store_id}",
        f"{coverage.n_with_text:,} have a text: {coverage.share_genes:.1%} of the genes, "
        f"{coverage.share_counts:.1%} of the counts; {coverage.n_duplicates} map to a gene already seen",
        "",
        *table(("found by", "names", "share of counts"), coverage.by_status),
        "",
        *table({"largest losses": "name", "share of counts": "share_counts:.5f", "why": "reason"}, coverage.losses),
    ]
    content = asdict(coverage) | {"store": kb.store_id, "n_match_in_other_case": kb.count_other_case(resolution)}
    show(content, lines, json=json)
    kb.check_species(resolution)
    if coverage.share_genes < min_coverage:
        raise CoverageTooLow(
            f"{coverage.share_genes:.1%} of the genes of {path} have a text in {kb.store_id}, "
            f"{min_coverage:.0%} are needed; see the losses above"
        )


def sql(
    query: Annotated[str, typer.Argument(help="SELECT over genes, names, texts, vectors_<encoder>.")],
    store: options.Store,
    json: options.Json = False,
) -> None:
    """Query a store with SQL; nothing can be written and nothing outside the store can be read.

    Example: genekb sql --kb human "select type, count(*) from genes group by type"
    """
    found = store.open().sql(query, dates_as_text=True)
    rows = [list(row) for row in zip(*(column.to_pylist() for column in found.columns), strict=True)]
    names = found.column_names  # two columns may have one name
    lines = ["\t".join(names), *("\t".join(map(str, row)) for row in rows)]
    show({"columns": names, "rows": rows}, lines, json=json)
