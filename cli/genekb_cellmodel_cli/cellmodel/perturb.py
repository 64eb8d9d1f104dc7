"""The command `cellmodel perturb`: effects of perturbations never seen, and how good they are."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genekb.core.messages import listed
from genekb.files.endings import CELLS, TABLE, check_ending
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    from anndata import AnnData

    from cellmodel.perturb.predict import Prediction

_SCORES: Columns = {
    "AUC": "auc",
    "95 %": lambda one: f"{one.low:.3f} to {one.high:.3f}",
    "genes": "n_genes",
    "pairs": "n_pairs",
    "without score": "n_missing",
}


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Tables of pairs."""

    train: Annotated[
        Path | None, typer.Option(help="Known pairs: perturbation, gene, label (0 or 1); .tsv or .csv, also .gz.")
    ] = None
    query: Annotated[Path | None, typer.Option(help="Pairs to predict: perturbation, gene; labels are not read.")] = (
        None
    )
    truth: Annotated[
        Path | None, typer.Option(help="Score what was predicted by a table with the label of each pair.")
    ] = None
    also: Annotated[
        list[Path] | None,
        typer.Option(
            help="Labels of other cell lines: used for perturbations that are in it, and recorded; repeatable."
        ),
    ] = None


def perturb(
    store: options.Store,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Predictions to write: .tsv or .csv; from cells, .h5ad or .zarr."),
        options.TABLE_OR_CELLS,
    ],
    pairs: Pairs,
    path: Annotated[Path | None, typer.Argument(help="Cells of a screen, in place of tables of pairs.")] = None,
    predict: Annotated[
        str | None,
        typer.Option("--predict", help="From cells: genes to perturb, with commas between, or a file, one a line."),
    ] = None,
    arguments: Arguments = arguments_of("cellmodel.tl.perturb", "genes", "output", "overwrite"),
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Predict effects of perturbations never seen, by the texts of perturbed and of responding genes.

    From tables: which genes respond. From cells (--predict): mean and interval of the effect on every gene.

    Example: cellmodel perturb --train train.tsv --query query.tsv --kb human -o predicted.tsv
    """
    from cellmodel.perturb.predict import PerturbConfig, predict_files, read_pairs

    check_ending(output, TABLE if path is None else CELLS, error=typer.BadParameter)
    if path is not None:
        if predict is None or pairs != Pairs():
            raise typer.BadParameter(
                "from cells, effects are predicted of --predict GENES; tables are given without cells"
            )
        effects = arguments.call(path, store.open(), genes=predict, output=output, overwrite=overwrite)
        _show_effects(path, effects, output, knowledge=arguments["knowledge"], json=json)
        return
    config = PerturbConfig(**arguments.take("encoder", "knowledge"))
    if pairs.train is None or pairs.query is None or predict is not None:
        raise typer.BadParameter("give --train FILE and --query FILE, or cells and --predict GENES")
    if pairs.truth is not None:
        read_pairs(pairs.truth, with_labels=True)  # a table that cannot be read ends this before the work
    found = predict_files(
        pairs.train, pairs.query, store.open(), output, config=config, also=pairs.also or (), overwrite=overwrite
    )
    content = {"train": str(pairs.train), "query": str(pairs.query), **found.record(), "output": str(output)}
    lines = list(_prediction_lines(found, output))
    if pairs.truth is not None:
        from cellmodel.bench.perturbations import perturb_eval

        scores = perturb_eval([output], pairs.truth)
        content["scores"] = asdict(scores[0])
        lines = [*table(_SCORES, scores), "", *lines]
    show(content, lines, json=json)


def _show_effects(path: Path, effects: "AnnData", output: Path, *, knowledge: str, json: bool) -> None:
    """Print which effects from cells are weak."""
    from cellmodel.tl._perturb import KEY

    rows = effects.obs.reset_index(names="perturbation").to_dict("records")
    record = effects.uns[KEY]
    content = {
        "input": str(path),
        "perturbations": rows,
        "unknown": [row["perturbation"] for row in rows if row["note"]],
        **{key: record[key] for key in ("n_trained", "explained_out_of_fold", "settings", "replicates", "store_id")},
        "encoder_id": record["encoder_id"],
        "n_genes": effects.n_vars,
        "output": str(output),
    }
    lines = [
        *table({"perturbation": "perturbation", "source": "source", "nearest": "nearest", "note": "note"}, rows),
        "",
        f"{record['n_trained']} trained perturbations; variance explained out of fold, beyond their mean: "
        f"{record['explained_out_of_fold']:.1%} (knowledge: {knowledge})",
        f"output: {output}",
    ]
    show(content, lines, json=json)


def _prediction_lines(found: "Prediction", output: Path) -> Iterator[str]:
    record = found.record()
    yield (
        f"{record['n_predicted']:,} pairs predicted from {found.n_trained:,} trained perturbations, "
        f"{record['n_answered_from_training']:,} answered from their own labels"
    )
    yield f"mean AUC over genes, out of fold: {found.auc_out_of_fold:.3f} (knowledge: {found.config.knowledge})"
    yield "chosen: " + ", ".join(f"{name} {value:g}" for name, value in record["settings"].items())
    if found.also:
        yield (
            f"labels of {found.also} used for {found.n_by_also:,} pairs; "
            f"{found.n_shared:,} trained perturbations are in it"
        )
    if found.unknown:
        yield f"not in {found.lineage.store_id}: {listed(found.unknown)}"
    yield from ("", f"output: {output}")
