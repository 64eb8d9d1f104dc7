"""The command `genekb`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from genekb.core.messages import counted
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import note, print_json, print_lines, print_table, progress_bar
from genekb_cellmodel_cli.app.running import QuickGroup, common, run
from genekb_cellmodel_cli.genekb import online as genekb_online
from genekb_cellmodel_cli.genekb import query as genekb_use
from genekb_cellmodel_cli.genekb import share as genekb_share
from genekb_cellmodel_cli.genekb import update as genekb_update
from genekb_cellmodel_cli.genekb.building import (
    check_store_name,
    describe_build,
    describe_plan,
    engine_config,
    read_names,
    read_tables,
    taxon_slug,
)
from genekb_cellmodel_cli.genekb.lineage_tree import print_lineage

app = typer.Typer(
    name="genekb",
    help="Versioned, verifiable stores of gene text and its embeddings.",
    cls=QuickGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take half of the time of --help
    callback=common,
)


@app.command()
def build(
    source: Annotated[
        Path | None,
        typer.Option(help="NCBI bulk or Entrez folder, data_report.jsonl, or a table; the demo table if left out."),
    ] = None,
    taxon: options.Taxon = None,
    model: Annotated[list[str] | None, typer.Option(help="Encoder, see `genekb models`; repeatable.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="NAME@RELEASE; species and release if left out.", callback=check_store_name),
    ] = None,
    genes: Annotated[str, typer.Option(help="Type of gene that gets a text, e.g. protein-coding, or all.")] = "all",
    only_genes: Annotated[Path | None, typer.Option(help="Only the genes of this cell file or name list.")] = None,
    template: Annotated[
        Literal["summary", "names", "symbol", "full", "summary-only", "go", "generif"],
        typer.Option(help="Fields of a gene's text."),
    ] = "summary",
    release: options.Release = None,
    names: options.Names = None,
    vector_dtype: Annotated[Literal["float16", "float32"], typer.Option(help="Stored type of vectors.")] = "float16",
    compute_dtype: options.ComputeDtype = "auto",
    base_url: options.BaseUrl = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    online: options.Online = False,
    trust_remote_code: options.TrustRemoteCode = False,
    engine: options.EngineName = "local",
    workers: options.Workers = None,
    stall_timeout_s: options.StallTimeout = 900.0,
    ray_address: options.RayAddress = None,
    dry_run: options.DryRun = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Build a store from NCBI's files, a table of your own, or the demo table.

    Example: genekb build --source 2022-11 --taxon human --genes protein-coding --model minilm --name human@2022-11
    """
    import time

    from genekb.builder.plan import BuildConfig, plan_build
    from genekb.builder.plan import build as build_store
    from genekb.genes.texts import find_template

    started = time.perf_counter()
    who = engine_config(name=engine, workers=workers, stall_timeout_s=stall_timeout_s, ray_address=ray_address)
    taxa = taxon or ["human"]
    tables = read_tables(source, taxa=taxa, release=release, names=names)
    parsed = time.perf_counter() - started
    config = BuildConfig(
        name=name or ("-".join(taxon_slug(taxon) for taxon in taxa) if source else "demo"),
        models=tuple(model or ["auto"]),
        genes=genes,
        only_names=read_names(only_genes),
        template=find_template(template),
        vector_dtype=vector_dtype,
        compute_dtype=compute_dtype,
        device=device,
        threads=threads,
        online=online,
        base_url=base_url,
        trust_remote_code=trust_remote_code,
        engine=who,
    )
    if dry_run:
        content = describe_plan(plan_build(tables, config), tables, config, home=home)
        print_json(content) if json else print_lines(f"{key}: {value}" for key, value in content.items())
        return
    with progress_bar() as progress:
        result = build_store(tables, config, home=home, progress=progress)
    content = describe_build(result) | {
        "seconds_parsing": round(parsed, 2),
        "seconds": round(time.perf_counter() - started, 2),
    }
    print_json(content) if json else print_lines(f"{key}: {value}" for key, value in content.items())


@app.command()
def models(json: options.Json = False) -> None:
    """List the encoders that --model takes, and which of them are on this machine.

    Example: genekb models
    """
    from dataclasses import asdict

    from genekb.encoders import list_models

    entries = list_models()
    if json:
        print_json({"models": [asdict(entry) for entry in entries]})
        return
    print_table(
        ("name", "dim", "max tokens", "here", "licence", "model"),
        [
            (entry.name, entry.dim or "", entry.max_tokens or "any", entry.where, entry.licence, entry.model_id)
            for entry in entries
        ],
    )


@app.command("list")
def list_stores(
    remote: Annotated[bool, typer.Option("--remote", help="List what a catalogue offers to pull instead.")] = False,
    catalog: genekb_share.Catalog = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """List the stores of the artifact home, or of a catalogue.

    Example: genekb list --remote --catalog https://example.org/genes/catalog.toml
    """
    if remote:
        listed = genekb_share.list_remote(catalog, home)
        if json:
            print_json({"stores": listed})
        else:
            _print_stores(listed, none="the catalogue lists no store")
        return
    from genekb.store.home import find_home, list_store_folders
    from genekb.store.manifest import read_manifest

    rows = []
    for folder in list_store_folders(find_home(home)):
        manifest = read_manifest(folder)
        rows.append(
            {
                "store": manifest.full_name,
                "digest": manifest.digest[:16],
                "n_genes": manifest.n_genes,
                "n_texts": manifest.n_texts,
                "encoders": list(manifest.encoders),
                "n_bytes": sum(file.n_bytes for file in manifest.files),
                "path": str(folder.absolute()),
            }
        )
    if json:
        print_json({"home": str(find_home(home)), "stores": rows})
    else:
        _print_stores(rows, none=f"no store in {find_home(home)}; make one with `genekb build`")


def _print_stores(rows: Sequence[Mapping[str, Any]], *, none: str) -> None:
    """Print stores as a table, without their paths, which `genekb path` prints."""
    shown = [{key: value for key, value in row.items() if key != "path"} for row in rows]
    if not shown:
        note(none)
        return
    cells = ([", ".join(value) if isinstance(value, list) else value for value in row.values()] for row in shown)
    print_table(tuple(shown[0]), [tuple(row) for row in cells])


@app.command()
def path(
    store: Annotated[str, typer.Argument(help="NAME[@RELEASE], digest or path.")],
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Print the folder of a store, for scripts; exit code 4 where there is none.

    Example: genekb path human
    """
    from genekb.store.home import find_store

    folder = find_store(store, home).absolute()
    print_json({"path": str(folder)}) if json else print_lines([str(folder)])


@app.command()
def info(
    store: Annotated[str, typer.Argument(help="NAME[@RELEASE], digest or path.")],
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Draw the stores, sources and encoders behind it.")
    ] = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Show what a store holds and from what it was made.

    Example: genekb info human@2022-11 --lineage
    """
    import json as json_module

    from genekb import open as open_store

    if lineage:
        print_lineage(store, home=home, json=json)
        return
    from genekb.store.card.readme import without_header

    kb = open_store(store, home=home)
    if json:
        print_json(json_module.loads(kb.manifest.to_json()) | {"path": str(kb.folder.absolute())})
        return
    print_lines([without_header(kb.card), f"path: {kb.folder}"])
    print_lines([f"digest: {kb.manifest.digest}", f"made: {kb.manifest.created_at} by {kb.manifest.created_by}"])


@app.command()
def resolve(
    path: Annotated[Path, typer.Argument(help="Cell file (h5ad, 10x, ...) or a text file with one name a line.")],
    kb: options.Kb,
    orthologs: options.Orthologs = False,
    min_coverage: options.MinCoverage = 0.0,
    gene_key: options.GeneKey = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Report how many genes of a file, and what share of its counts, a store knows.

    Example: genekb resolve cells.h5ad --kb human --min-coverage 0.8
    """
    from dataclasses import asdict

    from cellmodel.io.cells import read_gene_totals
    from genekb import open as open_store
    from genekb.core.errors import CoverageTooLow

    store = open_store(kb, home=home)
    names, totals = read_gene_totals(path, gene_key=gene_key)
    resolution = store.resolve(names, use_orthologs=orthologs)
    coverage = store.coverage(resolution, counts=totals)
    other_case = store.count_other_case(resolution)
    if json:
        content = asdict(coverage) | {"store": store.store_id, "n_match_in_other_case": other_case}
        print_json(content)
    else:
        print_lines(
            [
                f"{coverage.n_resolved:,} of {coverage.n_names:,} names stand for one gene of {store.store_id}",
                f"{coverage.n_with_text:,} have a text: {coverage.share_genes:.1%} of the genes, "
                f"{coverage.share_counts:.1%} of the counts; {coverage.n_duplicates} stand for a gene already seen",
                "",
            ]
        )
        print_table(("found by", "names", "share of counts"), coverage.by_status)
        print_lines([""])
        print_table(
            ("largest losses", "share of counts", "why"),
            [(loss.name, f"{loss.share_counts:.5f}", loss.reason) for loss in coverage.losses],
        )
    store.check_species(resolution)
    if coverage.share_genes < min_coverage:
        raise CoverageTooLow(
            f"{coverage.share_genes:.1%} of the genes of {path} have a text in {store.store_id}, "
            f"{min_coverage:.0%} are needed; see the losses above"
        )


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="SELECT over genes, names, texts, vectors_<encoder>.")],
    kb: options.Kb,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Query a store with SQL; nothing can be written and nothing outside the store can be read.

    Example: genekb sql --kb human "select type, count(*) from genes group by type"
    """
    from genekb import open as open_store

    table = open_store(kb, home=home).sql(query, dates_as_text=True)
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)  # two columns may have one name
    if json:
        print_json({"columns": table.column_names, "rows": [list(row) for row in rows]})
        return
    print_lines(["\t".join(table.column_names), *("\t".join(map(str, row)) for row in rows)])


@app.command()
def verify(
    store: Annotated[str, typer.Argument(help="NAME[@RELEASE], digest or path.")],
    home: options.Home = None,
    public_key: genekb_share.PublicKey = None,
    json: options.Json = False,
) -> None:
    """Check every byte, key and vector of a store against its manifest, and the manifest's signature.

    Example: genekb verify human@2022-11 --public-key lab.pub
    """
    from dataclasses import asdict

    from genekb.core.errors import StoreCorrupt
    from genekb.share.signing import verify_signature
    from genekb.store.home import find_store
    from genekb.store.verify import verify_store

    folder = find_store(store, home)
    signed = verify_signature(folder, public_key) if public_key else ""
    result = verify_store(folder)
    if json:
        print_json(asdict(result) | {"signed": signed})
    else:
        print_lines(
            [f"{result.store_id}: {result.n_files} files, {result.n_bytes:,} bytes, {result.n_vectors:,} vectors"]
        )
        print_lines(f"fault: {fault}" for fault in result.faults)
        print_lines(f"not pulled: {encoder_id}" for encoder_id in result.not_pulled)
        print_lines([f"signed: {signed}"] if signed else [])
    if result.faults:
        raise StoreCorrupt(f"{result.store_id} has {counted(len(result.faults), 'fault')}; build or pull it again")
    note("whole: every byte is what the manifest says")


genekb_online.register(app)
genekb_update.register(app)
genekb_use.register(app)
genekb_share.register(app)


def main() -> None:
    """Run `genekb`."""
    run(app, "genekb")
