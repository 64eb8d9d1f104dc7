"""Commands of `genekb` that get sources and encode texts: download, fetch, build, update, encode."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import wrong_usage
from genekb_cellmodel_cli.app.output import keep_interrupted, note, print_record, show

if TYPE_CHECKING:
    from genekb.builder.assemble import BuildResult
    from genekb.builder.plan import Loader
    from genekb.builder.update import UpdatePlan
    from genekb.sources.base import SourceTables


@dataclass(frozen=True, kw_only=True)
class SourceNames:
    """What is taken from a source."""

    taxon: options.Taxon = None
    release: Annotated[str | None, typer.Option(help="Release of the source; its folder's name if left out.")] = None
    names: Annotated[
        Path | None, typer.Option(help="Source that gives symbols their GeneIDs, where --source has symbols alone.")
    ] = None
    texts: Annotated[
        list[Path] | None,
        typer.Option(
            help="Further texts of genes: UniProt's .tsv, .dat or .json, STRING's protein.info, the Alliance's gene "
            "descriptions, or a table with gene_id or symbol, and text; or a folder; repeatable. --source is one, too."
        ),
    ] = None
    annotations: Annotated[
        list[Path] | None,
        typer.Option(
            help="Terms of genes for --model terms:NAME and best: gene2go, go-basic.obo, gene2pubmed, pairs of genes "
            "that interact (links*.tsv), gene sets (.gmt); or a folder; repeatable. --source is one, too."
        ),
    ] = None

    def read(self, source: Path | None, *, taxa: list[str]) -> "SourceTables":
        """Read a source of any kind; the demo table where none is given."""
        from genekb.sources.open import add_knowledge, read_source
        from genekb.sources.table import read_demo_table

        more = {"texts": self.texts or (), "annotations": self.annotations or ()}
        if source is None:
            return add_knowledge(read_demo_table(), **more)
        known = read_source(self.names, taxa=taxa) if self.names else None
        return read_source(source, taxa=taxa, release=self.release, names=known, **more)


@dataclass(frozen=True, kw_only=True)
class Encoding(options.Engine):
    """How texts are encoded, and where."""

    base_url: Annotated[str | None, typer.Option(help="Endpoint of an API; else OPENAI_BASE_URL, else OpenAI's.")] = (
        None
    )
    device: options.Device = "auto"
    threads: options.Threads = None
    trust_remote_code: options.TrustRemoteCode = False

    def settings(self) -> dict[str, Any]:
        """Give settings of :class:`genekb.BuildConfig`; choices that exclude one another are wrong usage."""
        of_engine = {field.name for field in fields(options.Engine)}
        chosen = {name: value for name, value in asdict(self).items() if name not in of_engine}
        return chosen | {"engine": self.config()}


@dataclass(frozen=True, kw_only=True)
class NewEncoding(Encoding):
    """The same for encoders that a store has not had before."""

    compute_dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="auto takes bfloat16 where the hardware has it.")
    ] = "auto"
    online: Annotated[bool, typer.Option("--online", help="Allow the download of an encoder's weights.")] = False


def check_store_name(name: str | None) -> str | None:
    """Take the name of a store that is to be made as an option's value: a wrong one is wrong use, before any work."""
    from genekb.core.errors import SourceUnusable
    from genekb.store.home import check_name

    with wrong_usage(SourceUnusable):
        return check_name(name) if name else name


def build(
    source_names: SourceNames,
    encoding: NewEncoding,
    source: Annotated[
        Path | None,
        typer.Option(help="NCBI bulk or Entrez folder, data_report.jsonl, or a table; the demo table if left out."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Encoder, see `genekb models`; repeatable. If left out, best where the source has terms, else auto."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="NAME@RELEASE; species and release if left out.", callback=check_store_name)
    ] = None,
    genes: Annotated[
        str | None,
        typer.Option(
            help="Type of gene that gets a text, or all; protein-coding of NCBI's files, all of any other source, if "
            "left out."
        ),
    ] = None,
    only_genes: Annotated[Path | None, typer.Option(help="Only the genes of this cell file or name list.")] = None,
    template: Annotated[
        Literal["summary", "names", "symbol", "full", "summary-only", "go", "generif", "designations", "functions"]
        | None,
        typer.Option(help="Fields of a gene's text; functions where the source has them, else summary, if left out."),
    ] = None,
    vector_dtype: Annotated[Literal["float16", "float32"], typer.Option(help="Stored type of vectors.")] = "float16",
    dry_run: options.DryRun = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Build a store from NCBI's files, a table of your own, or the demo table.

    Example: genekb build --source 2026-11 --name human@2026-11
    """
    import time

    from genekb.builder.plan import BuildConfig, distinct_texts, plan_build
    from genekb.builder.plan import build as build_store
    from genekb.encoders.imported.terms import with_best
    from genekb.genes.texts import find_template

    started = time.perf_counter()
    settings = encoding.settings()
    taxa = source_names.taxon or ["human"]
    tables = source_names.read(source, taxa=taxa)
    parsed = time.perf_counter() - started
    config = BuildConfig(
        name=name or ("-".join(taxon.strip().lower().replace(" ", "-") for taxon in taxa) if source else "demo"),
        models=tuple(model or ["auto"]),
        genes=genes,
        only_names=read_names(only_genes),
        template=find_template(template) if template else None,
        vector_dtype=vector_dtype,
        **settings,
    )
    if dry_run:
        plan, models = plan_build(tables, config), with_best(config.models, tables.terms)
        content = {
            "name": plan.name,
            "n_genes": tables.genes.num_rows,
            "n_texts": plan.texts.num_rows,
            "n_unique_texts": plan.n_unique_texts,
            "models": models,
        }
        texts, load = distinct_texts(plan.texts), config.loader(home)
        print_record(content | describe_costs(models, texts, load=load, dtype=vector_dtype), json=json)
        return
    result = build_store(tables, config, home=home)
    content = describe_build(result) | {
        "seconds_parsing": round(parsed, 2),
        "seconds": round(time.perf_counter() - started, 2),
    }
    print_record(content, json=json)


def update(
    store: options.NamedStore,
    source: Annotated[Path, typer.Option(help="The new source, as for `genekb build`.")],
    source_names: SourceNames,
    encoding: Encoding,
    name: Annotated[
        str | None,
        typer.Option(
            help="NAME@RELEASE of the new store; the source's release if left out.", callback=check_store_name
        ),
    ] = None,
    encoder: Annotated[list[str] | None, typer.Option(help="Encoder to carry on; all if left out; repeatable.")] = None,
    only_genes: Annotated[Path | None, typer.Option(help="Cell file or name list, where the store kept none.")] = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Make the store of a new release: only texts that changed are encoded, and how many is reported before it starts.

    Example: genekb update human@2021-07 --source 2022-11 --name human@2022-11
    """
    import time

    from genekb.builder.plan import BuildConfig
    from genekb.builder.update import estimate_update, plan_update
    from genekb.builder.update import update as update_store

    started = time.perf_counter()
    settings = encoding.settings()
    kb = store.open()
    tables = source_names.read(source, taxa=source_names.taxon or [str(tax_id) for tax_id in kb.manifest.taxa])
    config = BuildConfig(name=kb.manifest.name, **settings)
    plan = plan_update(kb, tables, name=name, only_names=read_names(only_genes), encoders=encoder, config=config)
    content = _planned(kb.store_id, plan)
    if dry_run:
        content["estimate"] = {key: asdict(cost) for key, cost in estimate_update(kb, plan).items()}
        print_record(content, json=json)
        return
    for encoder_id, n_texts in plan.n_to_encode.items():
        note(f"{encoder_id}: {n_texts:,} of {plan.plan.n_unique_texts:,} texts are new and will be encoded")
    result = update_store(kb, tables, plan, home=store.home, encoders=encoder)
    content |= describe_build(result) | {"seconds": round(time.perf_counter() - started, 2)}
    print_record(content, json=json)


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
    store: options.NamedStore,
    model: Annotated[list[str], typer.Option(help="Encoder to add, see `genekb models`; repeatable.")],
    encoding: NewEncoding,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Add encoders to a store: its texts are read by them too, and what it has is kept.

    Example: genekb encode human@2022-11 --model biobert
    """
    from genekb.builder.plan import BuildConfig, distinct_texts
    from genekb.builder.update import add_encoders

    settings = encoding.settings()
    kb = store.open()
    config = BuildConfig(name=kb.manifest.name, **settings)
    if dry_run:
        dtype = str(kb.manifest.options.get("vector_dtype", "float16"))
        texts = distinct_texts(kb.table("texts"))
        costs = describe_costs(model, texts, load=config.loader(store.home), dtype=dtype)
        print_record({"parent": kb.store_id} | costs, json=json)
        return
    with config.open_engine() as running:
        result = add_encoders(kb, model, load=config.loader(store.home), engine=running, home=store.home)
    print_record(describe_build(result), json=json)


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


Folder = Annotated[Path, typer.Argument(help="Folder for the files; made if it is not there.")]


def download(
    folder: Folder,
    retry: options.Retry,
    taxon: options.Taxon = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            help="gene_info, gene_summary, gene_orthologs (these, and of human HGNC's set, if left out), gene_history, "
            "gene2ensembl, "
            "gene2go, gene2pubmed, generifs_basic, taxdump, hgnc_complete_set; repeatable."
        ),
    ] = None,
    with_: Annotated[
        str | None,
        typer.Option("--with", help="Further sources, parted by commas: uniprot, string, alliance, go, pubmed, hgnc."),
    ] = None,
    gene: Annotated[
        list[str] | None,
        typer.Option(
            help="Only the records of this gene, or of the genes of a list or cell file, from E-utilities; repeatable."
        ),
    ] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Address in place of NCBI's gene/DATA, or with --gene its E-utilities.")
    ] = None,
    hgnc_url: Annotated[str | None, typer.Option(help="Address of HGNC's complete set, if not HGNC's own.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Download again what is here already.")] = False,
    json: options.Json = False,
) -> None:
    """Download NCBI's bulk files, or the records of some genes, into a folder; an interrupted download goes on.

    For --gene the e-mail address that NCBI asks for comes from NCBI_EMAIL, the key from NCBI_API_KEY.

    Example: genekb download 2026-11 --taxon human --with uniprot,go,pubmed
    """
    if gene:
        if file or with_ or hgnc_url or force or len(taxon or []) > 1:
            raise typer.BadParameter("--gene takes records of one species, without --file, --with, --hgnc-url, --force")
        _fetch(folder, gene, (taxon or ["human"])[0], retry=retry, base_url=mirror, json=json)
        return
    from genekb.sources.ncbi_download import MIRROR, DownloadConfig, download_release

    with wrong_usage():
        config = DownloadConfig(
            taxa=tuple(taxon or ["human"]),
            files=tuple(file or ()),
            more=tuple(with_.split(",") if with_ else ()),
            mirror=MIRROR if mirror is None else mirror,
            hgnc_url=hgnc_url,
            retry=retry.policy(),
            is_forced=force,
        )
    with keep_interrupted():
        result = download_release(folder, config)
    content = {"folder": str(folder), "release": result.release, "files": [asdict(one) for one in result.files]}
    state = {True: "downloaded", False: "here already"}
    show(content, (f"{one.name}: {one.n_bytes:,} bytes, {state[one.is_new]}" for one in result.files), json=json)
    release = f" --release {result.release}" if result.release else ""
    if not json:
        note(f"build from them with `genekb build --source {folder}{release}`")


def _fetch(
    folder: Path, gene: Sequence[str], taxon: str, *, retry: options.Retry, base_url: str | None, json: bool
) -> None:
    """Fetch the records of some genes: names, and files of names."""
    from genekb.sources.entrez_fetch import BASE_URL, FetchConfig, fetch_genes

    with wrong_usage():
        config = FetchConfig(taxon=taxon, base_url=BASE_URL if base_url is None else base_url, retry=retry.policy())
    names = [name for one in gene for name in (read_names(Path(one)) or () if Path(one).is_file() else (one,))]
    with keep_interrupted("what has been answered is kept"):
        result = fetch_genes(names, folder, config)
    print_record(asdict(result), json=json)
    note(f"build from them with `genekb build --source {folder} --taxon {taxon}`")
