"""Commands of `genekb` that get sources and encode texts: download, build, update, encode."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import keep_interrupted, note, print_record, show
from genekb_cellmodel_cli.app.signature import Arguments, wrong_usage

if TYPE_CHECKING:
    from genekb.builder.assemble import BuildResult
    from genekb.builder.plan import Loader

_N_LISTED = 10  # names without a vector that are shown
_OF_SOURCE = ("taxon", "release", "names", "texts", "annotations", "min_resolved")


def check_store_name(name: str | None) -> str | None:
    """Take the name of a store that is to be made as an option's value: a wrong one is wrong use, before any work."""
    from genekb.core.errors import SourceUnusable
    from genekb.store.home import check_name

    with wrong_usage(SourceUnusable):
        return check_name(name) if name else name


_SPECIAL: dict[str, dict[str, Any]] = {
    "name": {"callback": check_store_name},
    "only_genes": {"type": Path, "help": "Only the genes of this cell file or name list."},
    "device": {},
    "threads": {"min": 1},
    "min_resolved": {"min": 0.0, "max": 1.0},
}


def build(
    context: typer.Context,
    engine: options.Engine,
    arguments: Arguments = arguments_of("genekb.build", "engine", **_SPECIAL),
    lock: Annotated[
        Path | None,
        typer.Option(
            help="Build the stores of this lock file again, each with the digest that it pins; --source has the files "
            "that are not to be downloaded."
        ),
    ] = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Build a store from NCBI's files, a table of your own, or the demo table.

    Example: genekb build --source 2026-11 --name human@2026-11
    """
    from genekb.builder.build import build_config, default_name, read_tables
    from genekb.builder.plan import build as build_store
    from genekb.builder.plan import distinct_texts, plan_build
    from genekb.encoders.imported.terms import with_best

    if lock is not None:
        _rebuild(lock, arguments, engine, context, json=json)
        return
    started = time.perf_counter()
    running = engine.config()
    source, home, only = arguments.pop("source"), arguments.pop("home"), arguments.pop("only_genes")
    name = arguments.pop("name") or default_name(source, arguments["taxon"])
    tables = read_tables(source, **arguments.take(*_OF_SOURCE))
    parsed = time.perf_counter() - started
    config = build_config(name=name, only_genes=read_names(only), engine=running, **arguments)
    if dry_run:
        plan, models = plan_build(tables, config), with_best(config.models, tables.terms)
        content = {
            "name": plan.name,
            "n_genes": tables.genes.num_rows,
            "n_texts": plan.texts.num_rows,
            "n_unique_texts": plan.n_unique_texts,
            "models": models,
        }
        texts = distinct_texts(plan.texts)
        costs = describe_costs(models, texts, load=config.loader(home), dtype=config.vector_dtype)
        print_record(content | costs, json=json)
        return
    result = build_store(tables, config, home=home)
    seconds = {"seconds_parsing": round(parsed, 2), "seconds": round(time.perf_counter() - started, 2)}
    print_record(describe_build(result) | seconds, json=json)


def _rebuild(lock: Path, arguments: Arguments, engine: options.Engine, context: typer.Context, *, json: bool) -> None:
    from genekb.builder.rebuild import rebuild

    settings = arguments.take("source", "home", "device", "threads", "online", "base_url", "trust_remote_code")
    source_of = context.get_parameter_source
    given = [name for name in (*arguments, "dry_run") if getattr(source_of(name), "name", "") == "COMMANDLINE"]
    if given:
        options_given = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise typer.BadParameter(f"--lock FILE says what is built: leave out {options_given}")
    made = [
        {"store": kb.manifest.full_name, "digest": kb.manifest.digest, "path": str(kb.folder)}
        for kb in rebuild(lock, engine=engine.config(), **settings)
    ]
    lines = [f"{one['store']}: digest {one['digest']}, as pinned: {one['path']}" for one in made]
    show({"stores": made}, lines, json=json)


def update(
    store: options.NamedStore,
    source: Annotated[Path, typer.Option(help="The new source, as for `genekb build`.")],
    engine: options.Engine,
    arguments: Arguments = arguments_of(
        "genekb.update",
        "store",
        "source",
        "engine",
        "home",
        **_SPECIAL | {"only_genes": {"type": Path, "help": "Cell file or name list, where the store kept none."}},
    ),
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Make the store of a new release: only texts that changed are encoded, and how many is reported before it starts.

    Example: genekb update human@2021-07 --source 2022-11 --name human@2022-11
    """
    from genekb.builder.build import read_tables
    from genekb.builder.plan import BuildConfig
    from genekb.builder.update import estimate_update, plan_update
    from genekb.builder.update import update as update_store

    started = time.perf_counter()
    running = engine.config()
    kb = store.open()
    arguments["taxon"] = arguments["taxon"] or [str(tax_id) for tax_id in kb.manifest.taxa]
    tables = read_tables(source, **arguments.take(*_OF_SOURCE))
    name, encoders, only = (arguments.pop(each) for each in ("name", "encoder", "only_genes"))
    config = BuildConfig(name=kb.manifest.name, engine=running, **arguments)
    plan = plan_update(kb, tables, name=name, only_names=read_names(only), encoders=encoders, config=config)
    content = {
        "parent": kb.store_id,
        "name": plan.plan.name,
        **plan.changes.counts(),
        "n_texts": plan.plan.texts.num_rows,
        "n_unique_texts": plan.plan.n_unique_texts,
        "n_to_encode": dict(plan.n_to_encode),
    }
    if dry_run:
        content["estimate"] = {key: asdict(cost) for key, cost in estimate_update(kb, plan).items()}
        print_record(content, json=json)
        return
    for encoder_id, n_texts in plan.n_to_encode.items():
        note(f"{encoder_id}: {n_texts:,} of {plan.plan.n_unique_texts:,} texts are new and will be encoded")
    result = update_store(kb, tables, plan, home=store.home, encoders=encoders)
    content |= describe_build(result) | {"seconds": round(time.perf_counter() - started, 2)}
    print_record(content, json=json)


def check_encoder_name(name: str | None) -> str | None:
    """Take the name of an encoder that is to be made as an option's value, by the rule of every recipe."""
    from genekb.encoders import EncoderSpec

    with wrong_usage():
        return EncoderSpec(name=name, kind="foreign", model_id="", dim=1).name if name is not None else None


def encode(
    store: options.NamedStore,
    engine: options.Engine,
    arguments: Arguments = arguments_of(
        "genekb.encode", "store", "engine", "home", model={"default": None}, device={}, threads={"min": 1}
    ),
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="Add vectors that were made elsewhere instead: word2vec text, .npy, .npz, .parquet, .csv, .tsv, "
            ".json, .safetensors, .h5ad, .pkl."
        ),
    ] = None,
    imported: Arguments = arguments_of(
        "genekb.import_vectors",
        "store",
        "path",
        "home",
        name={"default": None, "callback": check_encoder_name},
        min_resolved={"min": 0.0, "max": 1.0},
    ),
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Add encoders to a store, or vectors of genes that were made elsewhere; what it has is kept.

    A pickle is read by a restricted reader that executes nothing.

    Example: genekb encode human@2022-11 --model biobert; genekb encode human --vectors GenePT.pickle --name genept
    """
    from genekb.builder.plan import BuildConfig, distinct_texts
    from genekb.builder.update import add_encoders

    models = arguments.pop("model")
    if vectors is not None:
        if models or dry_run or not imported["name"]:
            raise typer.BadParameter("--vectors FILE needs --name NAME, and goes without --model and --dry-run")
        _import(store, vectors, imported, json=json)
        return
    if not models or imported["name"]:
        raise typer.BadParameter("give --model ENCODER, or --vectors FILE with --name NAME")
    running = engine.config()
    kb = store.open()
    config = BuildConfig(name=kb.manifest.name, engine=running, **arguments)
    if dry_run:
        dtype = str(kb.manifest.options.get("vector_dtype", "float16"))
        texts = distinct_texts(kb.table("texts"))
        costs = describe_costs(models, texts, load=config.loader(store.home), dtype=dtype)
        print_record({"parent": kb.store_id} | costs, json=json)
        return
    with config.open_engine() as opened:
        result = add_encoders(kb, models, load=config.loader(store.home), engine=opened, home=store.home)
    print_record(describe_build(result), json=json)


def _import(store: options.NamedStore, path: Path, arguments: Arguments, *, json: bool) -> None:
    from genekb.builder.update import import_vectors

    if path.suffix.lower() == ".h5ad":
        from genekb.core.plugins import require

        require("anndata", needed_by=f"{path}: reading .h5ad needs")
        from cellmodel.io.formats.gene_anndata import read_genes_h5ad as read
    else:
        from genekb.encoders.imported.vectors import read_foreign as read

    kb = store.open()
    foreign = read(path, keys=arguments["keys"], **arguments.take("names", "column"))
    result = import_vectors(kb, foreign, home=store.home, **arguments)
    lines = [
        f"{result.n_genes:,} of {result.n_genes + len(result.left_out):,} vectors taken",
        *left_out_lines(result.left_out),
        f"encoder {result.encoder_id}; use it with --encoder {arguments['name']}",
        f"store {result.build.manifest.full_name}, digest {result.build.manifest.digest[:16]}: {result.build.folder}",
    ]
    status = result.resolution.status.tolist()
    n_resolved = int(result.resolution.is_resolved.sum())
    content = describe_build(result.build) | {
        "encoder": result.encoder_id,
        "n_names": len(foreign.names),
        "n_genes": result.n_genes,
        "n_duplicates": n_resolved - result.n_genes,
        "n_unresolved": len(status) - n_resolved,
        "found_by": {kind: status.count(kind) for kind in sorted(set(status))},
        "dropped_rows": dict(foreign.n_dropped),
        "left_out": [{"name": name, "reason": reason} for name, reason in result.left_out],
    }
    show(content, lines, json=json)


def left_out_lines(reasons: Sequence[tuple[str, str]]) -> list[str]:
    """Say what was left out and why, line by line."""
    more = [f"and {len(reasons) - _N_LISTED:,} more; --json lists all"] if len(reasons) > _N_LISTED else []
    return [*(f"left out: {name}: {why}" for name, why in reasons[:_N_LISTED]), *more]


def read_names(path: Path | None) -> tuple[str, ...] | None:
    """Read the gene names of a cell file or of a list."""
    if path is None:
        return None
    from cellmodel.io.gene_names import read_gene_totals

    return read_gene_totals(path)[0]


def describe_build(result: "BuildResult") -> dict[str, Any]:
    """Report what a store holds, and how much of it was encoded now."""
    manifest = result.manifest
    return {
        "store": manifest.full_name,
        "digest": manifest.digest,
        "path": str(result.folder),
        "n_genes": manifest.n_genes,
        "n_texts": manifest.n_texts,
        "n_unique_texts": manifest.n_unique_texts,
        "n_ortholog_texts": manifest.n_ortholog_texts,
        "dropped": dict(manifest.dropped),
        "encoders": {key: entry["n_vectors"] for key, entry in manifest.encoders.items()},
        "n_texts_cut": {key: entry["n_texts_cut"] for key, entry in manifest.encoders.items()},
        "n_encoded_now": result.n_encoded,
        "n_taken_from_parent": result.n_reused,
        "n_kept_from_interrupted_run": result.n_kept,
    }


def describe_costs(models: Sequence[str], texts: Sequence[str], *, load: "Loader", dtype: str) -> dict[str, Any]:
    """Time and size by encoder, as measured on some of the texts; the price of those behind an API."""
    from genekb.builder.plan import estimate_encoding
    from genekb.encoders.api import estimate_price
    from genekb.encoders.registry import choose_default, is_remote

    bases = {model for model in models if not model.startswith(("terms:", "mix:"))}
    remote = {base: base.removeprefix("api:") for base in bases if is_remote(base)}
    prices = {base: asdict(estimate_price(texts, model_id=model)) for base, model in remote.items()}

    def estimate(base: str) -> dict[str, Any]:
        name = choose_default(len(texts)) if base == "auto" else base  # a sample is smaller than the store
        return asdict(estimate_encoding(lambda sample: load(name, corpus=sample), texts, dtype=dtype))

    estimates = {base: estimate(base) for base in sorted(bases - set(prices))}
    return ({"estimate": estimates} if estimates else {}) | ({"price": prices} if prices else {})


def download(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; made if it is not there.")],
    arguments: Arguments = arguments_of(
        "genekb.download",
        "folder",
        more={
            "names": ("--with",),
            "type": str,
            "default": None,
            "help": "Further sources, parted by commas: uniprot, string, alliance, go, pubmed, hgnc.",
        },
        mirror={"help": "Address in place of NCBI's gene/DATA, or with --gene its E-utilities."},
        timeout_s={"min": 1.0},
    ),
    gene: Annotated[
        list[str] | None,
        typer.Option(
            help="Only the records of this gene, or of the genes of a list or cell file, from E-utilities; repeatable."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Download NCBI's bulk files, or the records of some genes, into a folder; an interrupted download goes on.

    For --gene the e-mail address that NCBI asks for comes from NCBI_EMAIL, the key from NCBI_API_KEY.

    Example: genekb download 2026-11 --taxon human --with uniprot,go,pubmed
    """
    import genekb

    if gene:
        taxon, mirror, timeout_s = (arguments.pop(name) for name in ("taxon", "mirror", "timeout_s"))
        if any(arguments.values()) or len(taxon) > 1:
            raise typer.BadParameter("--gene takes records of one species, without --file, --with, --hgnc-url, --force")
        names = [name for one in gene for name in (read_names(Path(one)) or () if Path(one).is_file() else (one,))]
        source = {"base_url": mirror} if mirror is not None else {}
        with wrong_usage(), keep_interrupted("what has been answered is kept"):
            fetched = genekb.fetch(folder, names, taxon=taxon[0], timeout_s=timeout_s, **source)
        print_record(asdict(fetched), json=json)
        note(f"build from them with `genekb build --source {folder} --taxon {taxon[0]}`")
        return
    more = arguments.pop("more")
    with wrong_usage(), keep_interrupted():
        result = genekb.download(folder, more=more.split(",") if more else (), **arguments)
    content = {"folder": str(folder), "release": result.release, "files": [asdict(one) for one in result.files]}
    state = {True: "downloaded", False: "here already"}
    show(content, (f"{one.name}: {one.n_bytes:,} bytes, {state[one.is_new]}" for one in result.files), json=json)
    release = f" --release {result.release}" if result.release else ""
    if not json:
        note(f"build from them with `genekb build --source {folder}{release}`")
