"""Commands of `genekb` that use a store: search, compare, export, gc."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.locks import existing_lock
from genekb_cellmodel_cli.app.output import note, print_json, print_lines, print_table

if TYPE_CHECKING:
    from genekb.query.compare import Comparison

Encoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder", help="Encoder of the store; repeatable; all that are here if left out.", show_default=False
    ),
]
Format = Literal["npy", "npz", "json", "word2vec", "h5ad", "safetensors", "parquet", "duckdb"]


def search(
    query: Annotated[str, typer.Argument(help="Free text, or a name of a gene.")],
    kb: options.Kb,
    encoder: Encoders = None,
    mode: Annotated[
        Literal["hybrid", "semantic", "keyword"], typer.Option(help="By meaning, by words, or by both.")
    ] = "hybrid",
    limit: Annotated[int, typer.Option(help="How many genes.", min=1)] = 10,
    gene_type: Annotated[
        str | None, typer.Option("--type", help="Only genes of this type, e.g. protein-coding.", show_default=False)
    ] = None,
    tax_id: Annotated[int | None, typer.Option(help="Only genes of this NCBI taxonomy id.", show_default=False)] = None,
    trust_remote_code: options.TrustRemoteCode = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Find genes by free text: by the meaning of their texts, by the words in them, or by both.

    Example: genekb search --kb human "T cell receptor signalling"
    """
    from dataclasses import asdict

    from genekb import open as open_store
    from genekb.query.search import search_genes

    if mode == "keyword" and encoder:
        raise typer.BadParameter("a keyword search uses no encoder; leave out --encoder or --mode keyword")
    store = open_store(kb, home=home, trust_remote_code=trust_remote_code)
    result = search_genes(store, query, encoders=encoder, mode=mode, limit=limit, taxon=tax_id, gene_type=gene_type)
    for name, reason in result.skipped.items():
        note(f"not used: {name}: {reason}")
    if json:
        print_json({"query": query, **asdict(result)})
        return
    print_table(
        (result.score, "gene_id", "symbol", "words", "text"),
        [
            (f"{hit.score:.4f}", str(hit.gene_id), hit.symbol, " ".join(hit.matched_words), hit.text[:100])
            for hit in result.hits
        ],
    )


def compare(
    kb: options.Kb,
    encoder: Encoders = None,
    neighbors: Annotated[int, typer.Option(help="Nearest genes looked at.", min=1)] = 10,
    genes: Annotated[int, typer.Option(help="Compare a sample of so many genes; 0 takes all.", min=0)] = 10_000,
    vocabulary: Annotated[
        list[str] | None,
        typer.Option(help="go_process, go_function, go_component, gene_group, name_family; repeatable; all."),
    ] = None,
    seed: options.Seed = 0,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Compare encoders of a store: shared neighbours, kernel alignment, and what their vectors know of genes.

    Example: genekb compare --kb human --encoder minilm --encoder biobert
    """
    from dataclasses import asdict

    from genekb import open as open_store
    from genekb.query.compare import compare_encoders

    if 0 < genes <= neighbors:
        raise typer.BadParameter(f"--genes must be above --neighbors ({neighbors}), got {genes}")
    result = compare_encoders(
        open_store(kb, home=home),
        encoders=encoder,
        n_neighbors=neighbors,
        n_genes=genes or None,
        seed=seed,
        vocabularies=vocabulary,
    )
    _tell_not_pulled(result.not_pulled)
    if json:
        print_json(asdict(result))
    else:
        _print_comparison(result)


def _tell_not_pulled(encoder_ids: Sequence[str]) -> None:
    if encoder_ids:
        note(f"left out, not pulled: {', '.join(encoder_ids)}")


def _print_comparison(result: "Comparison") -> None:
    print_lines([f"{result.store_id}: {result.n_genes:,} genes, {result.n_neighbors} neighbours", ""])
    if result.pairs:
        print_table(
            ("first", "second", "shared neighbours", "by chance", "CKA"),
            [
                (pair.first, pair.second, pair.neighbor_overlap, result.chance_overlap, pair.cka)
                for pair in result.pairs
            ],
        )
        print_lines([""])
    print_table(
        ("vocabulary", "encoder", "genes", "terms", "share", "shuffled", "chance", "gain", "95 %", "kNN", "held out"),
        [
            (
                task.vocabulary, task.encoder, task.score.n_genes, task.score.n_terms, task.score.knn_share,
                task.score.shuffled, task.score.chance, task.score.gain,
                f"{task.score.gain_low:.3f} to {task.score.gain_high:.3f}", task.score.knn_accuracy,
                "yes" if task.held_out else "no",
            )
            for task in result.tasks
        ],
    )  # fmt: skip
    for name in result.skipped:
        note(f"left out: {name}: too few of the compared genes share its terms")


def export(
    kb: options.Kb,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    encoder: options.Encoder = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="By the file's suffix if left out.", show_default=False)
    ] = None,
    overwrite: options.Overwrite = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Write the vectors of a store, or with .duckdb all of it, for other programs.

    Example: genekb export --kb human --encoder minilm -o genes.h5ad
    """
    from dataclasses import asdict

    from genekb import open as open_store

    kind = format_ or _kind_of(output)
    store = open_store(kb, home=home)
    content: dict[str, object] = {"store": store.store_id, "format": kind}
    if kind == "h5ad":
        from cellmodel.io.gene_anndata import write_genes_h5ad

        n_genes = write_genes_h5ad(store, output, encoder=encoder, overwrite=overwrite)
        content |= {"files": [str(output)], "encoders": [store.encoder_id(encoder)], "n_genes": n_genes}
    else:
        from genekb.query.export import export_store

        result = export_store(store, output, kind=kind, encoder=encoder, overwrite=overwrite)
        content |= asdict(result) | {"files": [str(file) for file in result.files]}
        _tell_not_pulled(result.not_pulled)
    print_json(content) if json else print_lines(f"{key}: {value}" for key, value in content.items() if value != ())


def _kind_of(path: Path) -> Format:
    kinds: dict[str, Format] = {
        ".npy": "npy", ".npz": "npz", ".json": "json", ".vec": "word2vec", ".w2v": "word2vec", ".h5ad": "h5ad",
        ".safetensors": "safetensors", ".parquet": "parquet", ".duckdb": "duckdb",
    }  # fmt: skip
    if path.suffix not in kinds:
        raise typer.BadParameter(f"{path.name} has none of the suffixes {', '.join(kinds)}; choose with --format")
    return kinds[path.suffix]


def gc(
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also remove stores that their name no longer stands for.")
    ] = False,
    keep_newest: Annotated[
        int | None,
        typer.Option(
            help="Remove superseded stores but the newest N of each name, the current one counted.",
            min=1,
            show_default=False,
        ),
    ] = None,
    lock: Annotated[
        list[Path] | None,
        typer.Option(
            help="Lock file whose stores stay, besides the project's and those noted in the home; repeatable.",
            show_default=False,
        ),
    ] = None,
    dry_run: options.DryRun = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Clear away unfinished builds, caches of stores that are gone, and on request superseded stores.

    Stores that a lock file pins stay. Bytes are those that are freed: generations of a store share their files.

    Example: genekb gc --keep-newest 2 --dry-run
    """
    from dataclasses import asdict

    from genekb.query.gc import collect_garbage
    from genekb.store.home import find_home
    from genekb.store.lockfile import find_lock_file, noted_lock_files

    folder, project = find_home(home), find_lock_file()
    given = [existing_lock(file, hint="give --lock a file that `genekb lock` wrote") for file in lock or ()]
    result = collect_garbage(
        folder,
        superseded=superseded or keep_newest is not None,
        dry_run=dry_run,
        keep_newest=keep_newest or 1,
        locks=[*given, *([project] if project else []), *noted_lock_files(folder)],
    )
    if json:
        print_json({"dry_run": dry_run, "n_bytes": result.n_bytes, **asdict(result)})
        return
    verb = "would remove" if dry_run else "removed"
    print_lines(f"{verb} {item.path} ({item.reason}, {item.n_bytes:,} bytes)" for item in result.removed)
    print_lines(f"left {item.path} ({item.reason})" for item in result.left)
    print_lines([f"{verb} {len(result.removed)} items, {result.n_bytes:,} bytes"])
    if result.n_superseded:
        print_lines(
            [
                f"superseded stores: {result.n_superseded}, {result.n_bytes_superseded:,} bytes; `genekb gc "
                "--superseded` removes them, `--keep-newest N` all but the newest N of each name"
            ]
        )


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `genekb`."""
    app.command()(search)
    app.command()(compare)
    app.command()(export)
    app.command()(gc)
