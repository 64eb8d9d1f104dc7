"""The part of `genekb export` that writes for one program, or the genes of a list."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import note, print_record

if TYPE_CHECKING:
    import genekb
    from genekb.query.programs import NamedVectors, Program
    from genekb.schema import IntArray

_N_LISTED = 10  # names without a vector that are shown


def export_for_program(
    store: options.Store,
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
    from genekb.query.programs import SUFFIXES, export_for, named_vectors, output_files, read_names

    if path.suffix != SUFFIXES[program]:
        raise typer.BadParameter(f"--for {program} writes {SUFFIXES[program]}, not {path.name}")
    if program == "gears" and genes is None:
        raise typer.BadParameter("a graph for GEARS joins the genes that are perturbed; list them with --genes")
    kb = store.open()
    names = read_names(genes) if genes else None
    found = named_vectors(kb, names, encoder=encoder, allow_missing=allow_missing)
    content: dict[str, object] = {
        "store": kb.store_id,
        "program": program,
        "files": [str(file) for file in output_files(found, path)],
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


def named_gene_ids(
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
    for line in left_out_lines(list(found.missing.items())):
        note(line)


def left_out_lines(reasons: Sequence[tuple[str, str]]) -> list[str]:
    """Say what was left out and why, line by line."""
    more = [f"and {len(reasons) - _N_LISTED:,} more; --json lists all"] if len(reasons) > _N_LISTED else []
    return [*(f"left out: {name}: {why}" for name, why in reasons[:_N_LISTED]), *more]
