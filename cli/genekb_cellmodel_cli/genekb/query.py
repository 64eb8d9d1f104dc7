"""Commands of `genekb` that look things up in a store: search, name-set, resolve, sql."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import genekb
from genekb.core.messages import p_text
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import Columns, note, show, table
from genekb_cellmodel_cli.app.signature import Arguments, wrong_usage

if TYPE_CHECKING:
    from genekb.query.name_set import NamedSet

_SHOWN = 5


def search(
    store: options.NamedStore,
    query: Annotated[str, typer.Argument(help="Free text, or a name of a gene.")],
    arguments: Arguments = arguments_of(
        "genekb.Store.search", "self", "query", gene_type={"names": ("--type",)}, limit={"min": 1}
    ),
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Find genes by free text: by the meaning of their texts, by the words in them, or by both.

    Example: genekb search --kb human "T cell receptor signalling"
    """
    from genekb.core.words import check_query, list_unknown

    with wrong_usage():
        check_query(query)
    if arguments["mode"] == "keyword" and arguments["encoder"]:
        raise typer.BadParameter("a keyword search uses no encoder; leave out --encoder or --mode keyword")
    result = store.open(trust_remote_code=trust_remote_code).search(query, **arguments)
    if result.unknown_words:
        note(f"in no gene text and no name: {list_unknown(result.unknown_words)}")
    for name, reason in result.skipped.items():
        note(f"not used: {name}: {reason}")
    columns: Columns = {
        result.shown_score: "cosine:.3f" if result.encoders else "score:.2f",
        "gene_id": "gene_id:d",
        "symbol": "symbol",
        "words": "matched_words",
        "text": lambda hit: hit.text[:100],
    }
    show({"query": query, **asdict(result)}, table(columns, result.hits), json=json)


def name_set(
    store: options.NamedStore,
    path: Annotated[
        Path,
        typer.Argument(
            help="Genes, one a line; or several sets: .gmt, a table with columns set and gene, or a set a line, its "
            "name first."
        ),
    ],
    arguments: Arguments = arguments_of(
        "genekb.name_set",
        "genes",
        vocabulary={"type": Path},
        universe={"type": Path},
        names={"min": 1},
        random_sets={"min": 2},
    ),
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Table to write, .tsv or .csv."), options.A_TABLE
    ] = None,
    overwrite: options.Overwrite = False,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Name gene sets by the texts of their genes, or say that they have no common theme.

    Annotations of genes with GO terms are not used.

    Example: genekb name-set genes.txt --kb human --vocabulary hallmarks.gmt -o names.tsv
    """
    from genekb.files.replace import Target, check_targets
    from genekb.query.name_set import NameSetConfig, write_names

    with wrong_usage():  # before any work
        NameSetConfig(max_p=arguments["max_p"], seed=arguments["random_state"])
    inputs = [file for file in (path, arguments["vocabulary"], arguments["universe"]) if file]
    if output:
        check_targets([Target(output, makes_parents=True)], inputs=inputs, overwrite=overwrite)
    kb = store.open(trust_remote_code=trust_remote_code)
    found = genekb.name_set(path, kb, **arguments)
    if output:
        write_names(found, output, overwrite=overwrite)
    for one in found.sets:
        if one.unknown:
            note(f"{one.set_name}: not in {kb.store_id}, or ambiguous: {', '.join(one.unknown)}")
    lines = _set_lines(found.sets[0]) if len(found.sets) == 1 else list(table(_SET_COLUMNS, found.sets))
    written = ["", f"output: {output}"] if output else []
    show(asdict(found), [*lines, *written], json=json)


_SET_COLUMNS: Columns = {
    "set": "set_name",
    "name": lambda one: one.name or f"({one.reason})",
    "p": "p_value:p",
    "genes": lambda one: f"{len(one.theme)} of {len(one.theme) + len(one.others)}",
    "theme": lambda one: [gene.name for gene in one.theme[:_SHOWN]],
}


def _set_lines(one: "NamedSet") -> list[str]:
    """Say what a set is named, from which genes, and what else it might be."""
    p_value = "" if one.p_value is None else f" (p {p_text(one.p_value)})"
    lines = [f"{one.set_name}: {one.name or one.reason}{p_value}"]
    if one.names:
        lines += ["", *table({"names": "name", "id": "name_id", "z": "z:.1f"}, one.names)]
    if one.theme:
        columns: Columns = {
            "genes of the theme": "name",
            "p": "p_value:p",
            "sentence": lambda gene: gene.sentence[:100],
        }
        lines += ["", *table(columns, one.theme)]
    rest = {"other genes": one.others, "without a text": one.without_text, "not in the universe": one.outside}
    lines += ["", *(f"{what}: {' '.join(genes)}" for what, genes in rest.items() if genes)]
    return lines if lines[-1] else lines[:-1]


def resolve(
    store: options.NamedStore,
    path: Annotated[Path, typer.Argument(help="Cell file (h5ad, 10x, ...) or a text file with one name a line.")],
    orthologs: options.Orthologs = False,
    min_coverage: options.MinCoverage = 0.0,
    gene_key: options.GeneKey = None,
    antibodies: Annotated[
        bool,
        typer.Option(
            "--antibodies",
            help="Map names of antibodies (CD11c, CD3_TotalSeqB) to genes of their antigens; done for lists of names.",
        ),
    ] = False,
    identifiers: Annotated[
        Path | None,
        typer.Option("--table", help="Table of identifiers that the store lacks: UniProt, RefSeq, probes of an array."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Report how many genes of a file, and what share of its counts, a store knows.

    Example: genekb resolve cells.h5ad --kb human --min-coverage 0.8
    """
    from cellmodel.io.gene_names import LISTS, read_gene_totals
    from genekb.core.errors import CoverageTooLow
    from genekb.files.tables import table_format

    kb = store.open()
    names, totals = read_gene_totals(path, gene_key=gene_key)
    antibodies = antibodies or table_format(path) in LISTS
    resolution = kb.resolve(names, use_orthologs=orthologs, use_antibodies=antibodies, table=identifiers)
    coverage = kb.coverage(resolution, counts=totals)
    proteins = [{"name": name, "genes": symbols} for name, symbols in _antigens(kb, resolution)]
    lines = [
        f"{coverage.n_resolved:,} of {coverage.n_names:,} names map to one gene of {kb.store_id}",
        f"{coverage.n_with_text:,} have a text: {coverage.share_genes:.1%} of the genes, "
        f"{coverage.share_counts:.1%} of the counts; {coverage.n_duplicates} map to a gene already seen",
        "",
        *table(("found by", "names", "share of counts"), coverage.by_status),
        "",
        *(
            table(("antibody", "genes"), ((one["name"], " ".join(one["genes"])) for one in proteins))
            if proteins
            else ()
        ),
        *([""] if proteins else ()),
        *table({"largest losses": "name", "share of counts": "share_counts:.5f", "why": "reason"}, coverage.losses),
    ]
    content = asdict(coverage) | {
        "store": kb.store_id,
        "proteins": proteins,
        "n_match_in_other_case": kb.count_other_case(resolution),
    }
    show(content, lines, json=json)
    kb.check_species(resolution)
    if coverage.share_genes < min_coverage:
        raise CoverageTooLow(
            f"{coverage.share_genes:.1%} of the genes of {path} have a text in {kb.store_id}, "
            f"{min_coverage:.0%} are needed; see the losses above"
        )


def _antigens(kb: "genekb.Store", resolution: "genekb.Resolution") -> Iterator[tuple[str, list[str]]]:
    """Yield each name that is an antibody's, with the symbols of its antigen."""
    genes = kb.table("genes")
    symbol_of = dict(zip(genes["gene_id"].to_pylist(), genes["symbol"].to_pylist(), strict=True))
    for row, status in enumerate(resolution.status):
        if status in {"protein", "complex"}:
            found = resolution.candidates.get(row, (int(resolution.gene_ids[row]),))
            yield resolution.names[row], [symbol_of[gene] for gene in found]


def sql(
    store: options.NamedStore,
    query: Annotated[str, typer.Argument(help="SELECT over genes, names, texts, vectors (with symbol, encoder).")],
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
