"""Commands of `genekb` that use the network: they write files, from which a store is then built without it."""

from pathlib import Path
from typing import Annotated

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.locks import transfer_progress
from genekb_cellmodel_cli.app.output import note, print_json, print_lines, print_record

Folder = Annotated[Path, typer.Argument(help="Folder for the files; made if it is not there.")]


def download(
    folder: Folder,
    taxon: options.Taxon = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            help="gene_info, gene_summary, gene_orthologs (these three if left out), gene_history, gene2ensembl, "
            "gene2go, generifs_basic, taxdump, hgnc_complete_set; repeatable."
        ),
    ] = None,
    mirror: Annotated[str | None, typer.Option(help="Address in place of NCBI's gene/DATA.")] = None,
    hgnc_url: Annotated[str | None, typer.Option(help="Address of HGNC's complete set, if not HGNC's own.")] = None,
    timeout_s: options.Timeout = 60.0,
    force: Annotated[bool, typer.Option("--force", help="Download again what is here already.")] = False,
    json: options.Json = False,
) -> None:
    """Download NCBI's bulk files into a folder, or go on with an interrupted download.

    Example: genekb download ncbi --taxon human --file gene_info --file gene_summary
    """
    from dataclasses import asdict

    from genekb.net.retry import RetryPolicy
    from genekb.sources.ncbi_download import DEFAULT_FILES, FILES, MIRROR, DownloadConfig, download_release

    unknown = [name for name in file or () if name not in FILES]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(FILES)}", param_hint="--file")
    try:
        config = DownloadConfig(
            taxa=tuple(taxon or ["human"]),
            files=tuple(file or DEFAULT_FILES),
            mirror=MIRROR if mirror is None else mirror,
            hgnc_url=hgnc_url,
            retry=RetryPolicy(timeout_s=timeout_s),
            is_forced=force,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with transfer_progress() as progress:
        result = download_release(folder, config, progress=progress)
    if json:
        print_json({"folder": str(folder), "release": result.release, "files": [asdict(one) for one in result.files]})
        return
    for one in result.files:
        print_lines([f"{one.name}: {one.n_bytes:,} bytes, {'downloaded' if one.is_new else 'here already'}"])
    release = f" --release {result.release}" if result.release else ""
    note(f"build from them with `genekb build --source {folder}{release}`")


def fetch(
    folder: Folder,
    gene_list: Annotated[Path, typer.Option(help="GeneIDs or symbols, one a line; or a cell file.")],
    taxon: Annotated[str, typer.Option(help="Species of the symbols.")] = "human",
    base_url: Annotated[str | None, typer.Option(help="Address in place of NCBI's E-utilities.")] = None,
    timeout_s: options.Timeout = 60.0,
    json: options.Json = False,
) -> None:
    """Fetch the records of some genes from NCBI's E-utilities, or go on with an interrupted fetch.

    The e-mail address that NCBI asks for comes from NCBI_EMAIL, the key from NCBI_API_KEY.

    Example: genekb fetch my-genes --gene-list genes.txt --taxon human
    """
    from genekb.net.retry import RetryPolicy
    from genekb.sources.entrez_fetch import BASE_URL, FetchConfig, fetch_genes
    from genekb_cellmodel_cli.genekb.build import read_names

    try:
        config = FetchConfig(
            taxon=taxon, base_url=BASE_URL if base_url is None else base_url, retry=RetryPolicy(timeout_s=timeout_s)
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with transfer_progress("what has been answered is kept") as bar:
        result = fetch_genes(
            read_names(gene_list) or (), folder, config, progress=lambda done, total: bar("genes", done, total)
        )
    content = {
        "folder": str(folder),
        "n_genes": result.n_genes,
        "n_calls": result.n_calls,
        "replaced": dict(result.replaced),
        "missing": list(result.missing),
    }
    print_record(content, json=json)
    note(f"build from them with `genekb build --source {folder} --taxon {taxon}`")
