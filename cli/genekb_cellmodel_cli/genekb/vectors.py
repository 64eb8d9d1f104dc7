"""Commands of `genekb` on the vectors of a store: compare, export, import."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genekb.files.endings import check_ending, vector_format
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import wrong_usage
from genekb_cellmodel_cli.app.output import Columns, note, print_record, show, table
from genekb_cellmodel_cli.genekb.build import describe_build
from genekb_cellmodel_cli.genekb.tasks import TaskOptions, compare_on_tasks

if TYPE_CHECKING:
    import genekb
    from genekb.builder.update import ImportResult
    from genekb.encoders.imported.vectors import ForeignVectors
    from genekb.query.compare import Comparison
    from genekb.query.programs import NamedVectors, Program
    from genekb.schema import IntArray

_N_LISTED = 10  # names without a vector that are shown
Format = Literal["npy", "npz", "json", "word2vec", "h5ad", "safetensors", "parquet", "duckdb"]


def _score(name: str) -> Callable[[Any], Any]:
    return lambda task: getattr(task.score, name)


_TASK_COLUMNS: Columns = {
    "vocabulary": "vocabulary",
    "encoder": "encoder",
    "genes": _score("n_genes"),
    "terms": _score("n_terms"),
    "share": _score("knn_share"),
    "shuffled": _score("shuffled"),
    "chance": _score("chance"),
    "gain": _score("gain"),
    "95 %": lambda task: f"{task.score.gain_low:.3f} to {task.score.gain_high:.3f}",
    "kNN": _score("knn_accuracy"),
    "held out": "held_out",
}


def compare(
    store: options.NamedStore,
    tasks: TaskOptions,
    encoder: options.Encoders = None,
    neighbors: Annotated[int, typer.Option(help="Nearest genes looked at.", min=1)] = 10,
    genes: Annotated[int, typer.Option(help="Compare a sample of so many genes; 0 takes all.", min=0)] = 10_000,
    vocabulary: Annotated[
        list[str] | None,
        typer.Option(help="go_process, go_function, go_component, gene_group, name_family; repeatable; all."),
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Compare encoders of a store: shared neighbors, kernel alignment, and what their vectors know of genes.

    With --tasks: how well they predict terms of genes, beside controls, intervals and published figures.

    Example: genekb compare --kb human --tasks gene_tasks -o tasks.tsv --plot tasks.svg
    """
    from genekb.query.compare import compare_encoders

    tasks.check()
    if tasks.tasks is not None:
        if vocabulary or (neighbors, genes) != (10, 10_000):
            raise typer.BadParameter("--neighbors, --genes and --vocabulary are for a comparison without --tasks")
        compare_on_tasks(store, tasks, encoders=encoder, seed=seed, json=json)
        return
    if 0 < genes <= neighbors:
        raise typer.BadParameter(f"--genes must be above --neighbors ({neighbors}), got {genes}")
    result = compare_encoders(
        store.open(), encoders=encoder, n_neighbors=neighbors, n_genes=genes or None, seed=seed, vocabularies=vocabulary
    )
    _note_not_pulled(result.not_pulled)
    show(asdict(result), _comparison_lines(result, n_asked=genes), json=json)
    for name in () if json else result.skipped:
        note(f"left out: {name}: too few of the compared genes share its terms")


def _note_not_pulled(encoder_ids: Sequence[str]) -> None:
    if encoder_ids:
        note(f"left out, not pulled: {', '.join(encoder_ids)}")


def _comparison_lines(result: "Comparison", *, n_asked: int) -> Iterator[str]:
    sample = " (a sample; --genes 0 takes all)" if result.n_genes == n_asked else ""
    yield from (f"{result.store_id}: {result.n_genes:,} genes{sample}, {result.n_neighbors} neighbors", "")
    if result.pairs:
        columns: Columns = {
            "first": "first",
            "second": "second",
            "shared neighbors": "neighbor_overlap",
            "by chance": lambda _: result.chance_overlap,
            "CKA": "cka",
        }
        yield from (*table(columns, result.pairs), "", _PAIRS_READ, "")
    if result.tasks:
        yield from (*table(_TASK_COLUMNS, result.tasks), "", _TASKS_READ)


_PAIRS_READ = (
    "shared neighbors: mean fraction of a gene's nearest genes that both give; CKA: 1 where the vectors are the same "
    "but for rotation and scale"
)
_TASKS_READ = (
    "share: mean fraction of a gene's nearest genes that have a term in common with it; gain: that minus the same for "
    "permuted vectors, more than chance where its interval is above 0"
)


def export(
    store: options.NamedStore,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    encoder: options.Encoder = None,
    format_: Annotated[Format | None, typer.Option("--format", help="By the file's suffix if left out.")] = None,
    program: Annotated[
        Literal["gears", "genept", "pertpy", "scouter"] | None,
        typer.Option("--for", help="A program's own form: graph (.csv), .json + .npz, AnnData (.h5ad), table (.csv)."),
    ] = None,
    genes: Annotated[
        Path | None, typer.Option(help="Genes to write: a list, one name or perturbation A+B a line; all if left out.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out, and list, genes of --genes without a vector.")
    ] = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Write the vectors of a store, or with .duckdb all of it, for other programs.

    Genes of --genes that have no vector are refused or left out; none ever gets zeros.

    Example: genekb export --kb human --for scouter --genes perturbed.txt -o vectors.csv
    """
    if allow_missing and genes is None:
        raise typer.BadParameter("--allow-missing is for a list of genes; give it with --genes")
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
        from genekb.query.export import export_store

        gene_ids, missing = _named_gene_ids(kb, genes, encoder=encoder, allow_missing=allow_missing)
        result = export_store(kb, output, kind=kind, encoder=encoder, gene_ids=gene_ids, overwrite=overwrite)
        content |= missing | asdict(result) | {"files": [str(file) for file in result.files]}
        _note_not_pulled(result.not_pulled)
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
    from genekb.query.programs import check_form, export_for, named_vectors, output_files, read_names

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
    _note_missing(found)
    print_record(content | {"missing": dict(found.missing) if json else list(found.missing)}, json=json)


def _named_gene_ids(
    kb: "genekb.Store", genes: Path | None, *, encoder: str | None, allow_missing: bool
) -> "tuple[IntArray | None, dict[str, object]]":
    """Give the GeneIDs of a list of genes, each once, and the names without a vector; None without a list."""
    import numpy as np

    from genekb.query.programs import named_vectors, read_names

    if genes is None:
        return None, {}
    found = named_vectors(kb, read_names(genes), encoder=encoder, allow_missing=allow_missing)
    _note_missing(found)
    _, first = np.unique(found.gene_ids, return_index=True)
    return found.gene_ids[np.sort(first)], {"missing": list(found.missing)}


def _note_missing(found: "NamedVectors") -> None:
    for line in _left_out_lines(list(found.missing.items())):
        note(line)


def _left_out_lines(reasons: Sequence[tuple[str, str]]) -> list[str]:
    """Say what was left out and why, line by line."""
    more = [f"and {len(reasons) - _N_LISTED:,} more; --json lists all"] if len(reasons) > _N_LISTED else []
    return [*(f"left out: {name}: {why}" for name, why in reasons[:_N_LISTED]), *more]


def check_encoder_name(name: str) -> str:
    """Take the name of an encoder that is to be made as an option's value, by the rule of every recipe."""
    from genekb.encoders import EncoderSpec

    with wrong_usage():
        return EncoderSpec(name=name, kind="foreign", model_id="", dim=1).name


def import_(
    store: options.NamedStore,
    path: Annotated[
        Path, typer.Argument(help="word2vec text, .npy, .npz, .parquet, .csv, .tsv, .json, .safetensors, .h5ad, .pkl.")
    ],
    name: Annotated[str, typer.Option(help="Name that the vectors get as an encoder.", callback=check_encoder_name)],
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
    json: options.Json = False,
) -> None:
    """Take vectors of genes that were made elsewhere into a store, as an encoder of their own.

    A pickle is read by a restricted reader that executes nothing.

    Example: genekb import human@2022-11 GenePT.pickle --name genept
    """
    from genekb.builder.update import import_vectors

    if path.suffix.lower() == ".h5ad":
        from genekb.core.plugins import require

        require("anndata", needed_by=f"{path}: reading .h5ad needs")
        from cellmodel.io.formats.gene_anndata import read_genes_h5ad as read
    else:
        from genekb.encoders.imported.vectors import read_foreign as read

    kb = store.open()
    foreign = read(path, names=names, column=column, keys=keys)
    result = import_vectors(kb, foreign, name=name, home=store.home, keys=keys, min_resolved=min_resolved)
    show(_describe_import(foreign, result), _import_lines(result, name), json=json)


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


def _import_lines(result: "ImportResult", name: str) -> list[str]:
    left_out, manifest = result.left_out, result.build.manifest
    return [
        f"{result.n_genes:,} of {result.n_genes + len(left_out):,} vectors taken",
        *_left_out_lines(left_out),
        f"encoder {result.encoder_id}; use it with --encoder {name}",
        f"store {manifest.full_name}, digest {manifest.digest[:16]}: {result.build.folder}",
    ]
