"""Commands of `genekb` that make new stores from old ones, and compare two of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import note, print_json, print_lines, print_table, progress_bar
from genekb_cellmodel_cli.genekb.building import (
    check_encoder_name,
    check_store_name,
    describe_build,
    describe_costs,
    engine_config,
    read_names,
    read_tables,
)

if TYPE_CHECKING:
    from genekb.builder.diff import StoreDiff
    from genekb.builder.update import ImportResult, UpdatePlan
    from genekb.encoders.imported.vectors import ForeignVectors

_N_LISTED: Final = 10  # rows without a vector that are shown
Store = Annotated[str, typer.Argument(help="NAME[@RELEASE], digest or path.")]


def update(
    store: Store,
    source: Annotated[Path, typer.Option(help="The new source, as for `genekb build`.", show_default=False)],
    taxon: options.Taxon = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="NAME@RELEASE of the new store; the source's release if left out.", callback=check_store_name
        ),
    ] = None,
    release: options.Release = None,
    encoder: Annotated[list[str] | None, typer.Option(help="Encoder to carry on; all if left out; repeatable.")] = None,
    only_genes: Annotated[Path | None, typer.Option(help="Cell file or name list, where the store kept none.")] = None,
    names: options.Names = None,
    base_url: options.BaseUrl = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    trust_remote_code: options.TrustRemoteCode = False,
    engine: options.EngineName = "local",
    workers: options.Workers = None,
    stall_timeout_s: options.StallTimeout = 900.0,
    ray_address: options.RayAddress = None,
    dry_run: options.DryRun = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Make the store of a new release: only texts that changed are encoded, and how many is said before it starts.

    Example: genekb update human@2021-07 --source 2022-11 --name human@2022-11
    """
    import time
    from dataclasses import asdict

    from genekb import open as open_store
    from genekb.builder.plan import BuildConfig
    from genekb.builder.update import estimate_update, plan_update
    from genekb.builder.update import update as update_store

    started = time.perf_counter()
    who = engine_config(name=engine, workers=workers, stall_timeout_s=stall_timeout_s, ray_address=ray_address)
    kb = open_store(store, home=home)
    taxa = taxon or [str(tax_id) for tax_id in kb.manifest.taxa]
    tables = read_tables(source, taxa=taxa, release=release, names=names)
    config = BuildConfig(
        name=kb.manifest.name,
        device=device,
        threads=threads,
        base_url=base_url,
        trust_remote_code=trust_remote_code,
        engine=who,
    )
    plan = plan_update(kb, tables, name=name, only_names=read_names(only_genes), encoders=encoder, config=config)
    content = _planned(kb.store_id, plan)
    if dry_run:
        content["estimate"] = {key: asdict(cost) for key, cost in estimate_update(kb, plan).items()}
        print_json(content) if json else print_lines(f"{key}: {value}" for key, value in content.items())
        return
    for encoder_id, n_texts in plan.n_to_encode.items():
        note(f"{encoder_id}: {n_texts:,} of {plan.plan.n_unique_texts:,} texts are new and will be encoded")
    with progress_bar() as progress:
        result = update_store(kb, tables, plan, home=home, encoders=encoder, progress=progress)
    content |= describe_build(result) | {"seconds": round(time.perf_counter() - started, 2)}
    print_json(content) if json else print_lines(f"{key}: {value}" for key, value in content.items())


def _planned(store_id: str, plan: "UpdatePlan") -> dict[str, Any]:
    return {
        "parent": store_id,
        "name": plan.plan.name,
        **plan.changes.counts(),
        "n_texts": plan.plan.texts.num_rows,
        "n_unique_texts": plan.plan.n_unique_texts,
        "n_to_encode": dict(plan.n_to_encode),
    }


def encode(
    store: Store,
    model: Annotated[list[str], typer.Option(help="Encoder to add, see `genekb models`; repeatable.")],
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
    """Add encoders to a store: its texts are read by them too, and what it has is kept.

    Example: genekb encode human@2022-11 --model biobert
    """
    from genekb import open as open_store
    from genekb.builder.plan import BuildConfig, distinct_texts
    from genekb.builder.update import add_encoders

    who = engine_config(name=engine, workers=workers, stall_timeout_s=stall_timeout_s, ray_address=ray_address)
    kb = open_store(store, home=home)
    config = BuildConfig(
        name=kb.manifest.name,
        compute_dtype=compute_dtype,
        device=device,
        threads=threads,
        online=online,
        base_url=base_url,
        trust_remote_code=trust_remote_code,
        engine=who,
    )
    if dry_run:
        dtype = str(kb.manifest.options.get("vector_dtype", "float16"))
        texts = distinct_texts(kb.table("texts"))
        content = {"parent": kb.store_id} | describe_costs(model, texts, load=config.loader(home), dtype=dtype)
        print_json(content) if json else print_lines(f"{key}: {value}" for key, value in content.items())
        return
    with progress_bar() as progress, config.open_engine() as running:
        result = add_encoders(kb, model, load=config.loader(home), engine=running, home=home, progress=progress)
    content = describe_build(result)
    print_json(content) if json else print_lines(f"{key}: {value}" for key, value in content.items())


def import_(
    store: Store,
    path: Annotated[
        Path,
        typer.Argument(help="word2vec text, .npy, .npz, .parquet, .csv, .tsv, .json, .safetensors, .h5ad, .pkl."),
    ],
    name: Annotated[
        str,
        typer.Option(help="Name that the vectors get as an encoder.", show_default=False, callback=check_encoder_name),
    ],
    names: Annotated[
        Path | None, typer.Option(help="A name per row where the file has none: lines, JSON, or a table.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Column of a table that holds the names or GeneIDs.")] = None,
    keys: Annotated[
        Literal["auto", "gene_id", "row"],
        typer.Option(help="What keys that are numbers are; auto: GeneIDs if a column of symbols agrees, else refused."),
    ] = "auto",
    min_resolved: Annotated[
        float, typer.Option(help="Least share of the names that the store must know.", min=0.0, max=1.0)
    ] = 0.5,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Take vectors of genes that were made elsewhere into a store, as an encoder of their own.

    A pickle is read by a restricted reader that executes nothing.

    Example: genekb import human@2022-11 GenePT.pickle --name genept
    """
    from genekb import open as open_store
    from genekb.builder.update import import_vectors

    if path.suffix.lower() == ".h5ad":
        from cellmodel.io.gene_anndata import read_genes_h5ad as read
    else:
        from genekb.encoders.imported.vectors import read_foreign as read

    kb = open_store(store, home=home)
    foreign = read(path, names=names, column=column, keys=keys)
    result = import_vectors(kb, foreign, name=name, home=home, keys=keys, min_resolved=min_resolved)
    if json:
        print_json(_describe_import(foreign, result))
    else:
        _print_import(result, name)


def _describe_import(foreign: "ForeignVectors", result: "ImportResult") -> dict[str, Any]:
    status = result.resolution.status.tolist()
    n_resolved = int(result.resolution.is_resolved.sum())
    return describe_build(result.build) | {
        "encoder": result.encoder_id,
        "n_names": len(foreign.names),
        "n_genes": result.n_genes,
        "n_duplicates": n_resolved - result.n_genes,
        "n_unresolved": len(status) - n_resolved,
        "found_by": {kind: status.count(kind) for kind in sorted(set(status))},
        "dropped_rows": dict(foreign.n_dropped),
        "left_out": [{"name": name, "reason": reason} for name, reason in result.left_out],
    }


def _print_import(result: "ImportResult", name: str) -> None:
    left_out, manifest = result.left_out, result.build.manifest
    print_lines(
        [
            f"{result.n_genes:,} of {result.n_genes + len(left_out):,} vectors taken",
            *(f"left out: {one}: {reason}" for one, reason in left_out[:_N_LISTED]),
            *([f"and {len(left_out) - _N_LISTED:,} more; --json lists all"] if len(left_out) > _N_LISTED else []),
            f"encoder {result.encoder_id}; use it with --encoder {name}",
            f"store {manifest.full_name}, digest {manifest.digest[:16]}: {result.build.folder}",
        ]
    )


def diff(
    old: Annotated[str, typer.Argument(help="NAME[@RELEASE], digest or path.")],
    new: Annotated[str, typer.Argument(help="NAME[@RELEASE], digest or path.")],
    limit: Annotated[int, typer.Option(help="Examples of each kind to show.", min=0)] = 10,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Compare two stores: genes added, retired, renamed; texts word by word; how far the vectors moved.

    Example: genekb diff human@2020-01 human@2022-11
    """
    from dataclasses import asdict

    from genekb import open as open_store
    from genekb.builder.diff import diff_stores

    result = diff_stores(open_store(old, home=home), open_store(new, home=home), n_examples=limit)
    if json:
        print_json({"counts": result.changes.counts(), **asdict(result)})
        return
    _print_diff(result, limit)


def _print_diff(result: "StoreDiff", limit: int) -> None:
    changes = result.changes
    print_lines([f"{result.old} -> {result.new}", ""])
    print_table(("change", "number"), list(changes.counts().items()))
    if changes.renamed:
        shown = ", ".join(f"{gene.old} -> {gene.new}" for gene in changes.renamed[:limit])
        print_lines(["", f"renamed: {shown}"])
    for word in result.words:
        print_lines(["", f"{word.symbol} ({word.gene_id}): {word.words}"])
    if result.moved:
        print_lines([""])
        header = ("encoder", "same recipe", "genes", "moved", "median", "q90", "q99", "farthest")
        rows = [
            (
                move.encoder, move.same_recipe, move.n_genes, move.n_moved, move.median, move.q90, move.q99,
                ", ".join(f"{symbol} {distance:.2f}" for _, symbol, distance in move.farthest[:3]),
            )
            for move in result.moved
        ]  # fmt: skip
        print_table(header, rows)
    for what, encoders in (("old", result.only_in_old), ("new", result.only_in_new)):
        if encoders:
            print_lines([f"only in the {what} store: {', '.join(encoders)}"])
    if result.not_pulled:
        print_lines([f"left out, not pulled: {', '.join(result.not_pulled)}"])


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `genekb`."""
    app.command()(update)
    app.command()(encode)
    app.command("import")(import_)
    app.command()(diff)
