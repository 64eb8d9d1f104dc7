"""The command `genekb export`: vectors of a store for other programs."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genekb.files.endings import check_ending, vector_format
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import note, print_record
from genekb_cellmodel_cli.app.signature import Arguments, wrong_usage
from genekb_cellmodel_cli.genekb.build import left_out_lines
from genekb_cellmodel_cli.genekb.compare import note_not_pulled

if TYPE_CHECKING:
    from genekb.query.export import Program

Format = Literal["npy", "npz", "json", "word2vec", "h5ad", "safetensors", "parquet", "duckdb"]


def export(
    store: options.NamedStore,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    arguments: Arguments = arguments_of(
        "genekb.export",
        "path",
        format={"type": Format},
        program={
            "names": ("--for",),
            "type": Literal["gears", "genept", "helical", "pertpy", "scouter"],
            "help": "A program's own form: graph (.csv), .json + .npz, .json, AnnData (.h5ad), table (.csv).",
        },
        genes={
            "type": Path,
            "help": "Genes to write: a list, one name or perturbation A+B a line; all if left out.",
        },
        order={
            "type": Path,
            "help": "A model's vocab.json: a row for each token, with a mask (.npz, .safetensors).",
        },
    ),
    json: options.Json = False,
) -> None:
    """Write the vectors of a store, or with .duckdb all of it, for other programs.

    Genes of --genes that have no vector are refused or left out; none ever gets zeros.

    Example: genekb export --kb human --for scouter --genes perturbed.txt -o vectors.csv
    """
    format_, program, genes, order = (arguments.pop(name) for name in ("format", "program", "genes", "order"))
    allow_missing, encoder, overwrite = (arguments.pop(name) for name in ("allow_missing", "encoder", "overwrite"))
    if allow_missing and genes is None:
        raise typer.BadParameter("--allow-missing is for a list of genes; give it with --genes")
    if order is not None:
        if format_ or program or genes:
            raise typer.BadParameter("--order gives the rows itself; leave out --format, --for and --genes")
        _export_in_order(store, output, order, encoder=encoder, overwrite=overwrite, json=json)
        return
    if program is not None:
        if format_ is not None:
            raise typer.BadParameter("--for has a format of its own; leave out --format")
        _export_for_program(
            store, output, program, genes=genes, allow_missing=allow_missing, encoder=encoder, overwrite=overwrite,
            json=json,
        )  # fmt: skip
        return
    kind: Any = format_ or vector_format(output, error=typer.BadParameter)
    check_ending(output, kind, any_other=True, error=typer.BadParameter)
    if genes is not None and kind in {"h5ad", "duckdb"}:
        raise typer.BadParameter(f"--genes is not for .{kind}; write another format, or --for pertpy")
    kb = store.open()
    content: dict[str, object] = {"store": kb.store_id, "format": kind}
    if kind == "h5ad":
        from genekb.core.plugins import require

        require("anndata", needed_by="--format h5ad needs", instead="write .parquet, .npy or .safetensors")
        from cellmodel.io.formats.gene_anndata import write_genes_h5ad

        n_genes = write_genes_h5ad(kb, output, encoder=encoder, overwrite=overwrite)
        content |= {"files": [str(output)], "encoders": [kb.gene_encoder_id(encoder)], "n_genes": n_genes}
    else:
        from genekb.query.export import export_store, gene_ids_of, read_names

        gene_ids = None
        if genes is not None:
            gene_ids, missing = gene_ids_of(kb, read_names(genes), encoder=encoder, allow_missing=allow_missing)
            _note_missing(missing)
            content["missing"] = list(missing)
        result = export_store(kb, output, kind=kind, encoder=encoder, gene_ids=gene_ids, overwrite=overwrite)
        content |= asdict(result) | {"files": [str(file) for file in result.files]}
        note_not_pulled(result.not_pulled)
    print_record(content, json=json)


def _export_in_order(
    store: options.NamedStore, path: Path, vocabulary: Path, *, encoder: str | None, overwrite: bool, json: bool
) -> None:
    """Write a row for each token of a model's vocabulary, and print how many are vectors."""
    from genekb.query.vocabulary import FORMATS, export_ordered, read_vocabulary

    check_ending(path, *FORMATS, error=typer.BadParameter)
    tokens, kb = read_vocabulary(vocabulary), store.open()
    result = export_ordered(kb, path, tokens, encoder=encoder, overwrite=overwrite)
    content = {"store": kb.store_id, "n_tokens": len(tokens), **asdict(result), "files": list(map(str, result.files))}
    print_record(content, json=json)


def _export_for_program(
    store: options.NamedStore,
    path: Path,
    program: "Program",
    *,
    genes: Path | None,
    allow_missing: bool,
    encoder: str | None,
    overwrite: bool,
    json: bool,
) -> None:
    """Write vectors in the form that a program reads, and print what was written."""
    from genekb.query.export import check_form, export_for, named_vectors, output_files, read_names

    with wrong_usage():
        check_form(path, program, are_named=genes is not None)
    kb = store.open()
    names = read_names(genes) if genes else None
    found = named_vectors(kb, names, encoder=encoder, allow_missing=allow_missing)
    content: dict[str, object] = {
        "store": kb.store_id,
        "program": program,
        "files": [str(file) for file in output_files(found, path, program)],
        "encoder": found.lineage["encoder_id"],
        "n_genes": len(found.names),
    }
    if program == "pertpy":
        from genekb.core.plugins import require

        require("anndata", needed_by="--for pertpy needs", instead="write --for scouter")
        from cellmodel.io.formats.gene_anndata import write_perturbations_h5ad

        write_perturbations_h5ad(found, path, overwrite=overwrite)
    else:
        n_edges = export_for(found, path, program=program, overwrite=overwrite)
        content |= {"n_edges": n_edges} if program == "gears" else {}
    _note_missing(found.missing)
    print_record(content | {"missing": dict(found.missing) if json else list(found.missing)}, json=json)


def _note_missing(missing: Mapping[str, str]) -> None:
    for line in left_out_lines(list(missing.items())):
        note(line)
