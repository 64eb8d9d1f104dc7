"""The commands `cellmodel perturb` and `perturb-eval`: effects of perturbations never seen, and how good they are."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import Columns, show, table

if TYPE_CHECKING:
    from cellmodel.perturb.predict import Prediction

_SHOWN = 12
_EVAL: Columns = {
    "predictions": "name",
    "AUC": "auc",
    "95 %": lambda one: f"{one.low:.3f} to {one.high:.3f}",
    "genes": "n_genes",
    "pairs": "n_pairs",
    "without score": "n_missing",
}


def perturb(
    store: options.Store,
    output: Annotated[Path, typer.Option("--output", "-o", help="Predictions to write: .tsv or .csv.")],
    train: Annotated[
        Path | None, typer.Option(help="Known pairs: perturbation, gene, label (0 or 1); .tsv or .csv, also .gz.")
    ] = None,
    query: Annotated[
        Path | None, typer.Option(help="Pairs to predict: perturbation, gene; labels are not read.")
    ] = None,
    also: Annotated[
        Path | None,
        typer.Option(help="Labels of other cell lines: used for perturbations that are in it, and recorded."),
    ] = None,
    knowledge: Annotated[
        Literal["real", "shuffled", "name", "symbol"],
        typer.Option(help="Texts as they are, or a control: permuted, full names alone, characters of the symbols."),
    ] = "real",
    encoder: options.Encoder = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Predict which genes respond to perturbations never seen, by the texts of perturbed and of responding genes.

    Example: cellmodel perturb --train train.tsv --query query.tsv --kb human -o predicted.tsv
    """
    if train is None or query is None:
        raise typer.BadParameter("known pairs and pairs to predict are needed: --train FILE and --query FILE")
    from cellmodel.perturb.predict import PerturbConfig, predict_files

    config = PerturbConfig(encoder=encoder, knowledge=knowledge)
    found = predict_files(train, query, store.open(), output, config=config, also=also, overwrite=overwrite)
    content = {"train": str(train), "query": str(query), **found.record(), "output": str(output)}
    show(content, _prediction_lines(found, output), json=json)


def _prediction_lines(found: "Prediction", output: Path) -> Iterator[str]:
    record = found.record()
    yield (
        f"{record['n_predicted']:,} pairs predicted from {found.n_trained:,} trained perturbations, "
        f"{record['n_answered_from_training']:,} answered from their own labels"
    )
    yield f"mean AUC over genes, out of fold: {found.auc_out_of_fold:.3f} (knowledge: {found.config.knowledge})"
    if found.also:
        yield f"labels of {found.also} used: {found.n_shared:,} trained perturbations are in it"
    if found.unknown:
        more = f", and {len(found.unknown) - _SHOWN:,} more" if len(found.unknown) > _SHOWN else ""
        yield f"not in {found.lineage.store_id}: {', '.join(found.unknown[:_SHOWN])}{more}"
    yield from ("", f"output: {output}")


def evaluate(
    predictions: Annotated[
        list[Path], typer.Argument(help="Tables of `cellmodel perturb`; controls beside each other.")
    ],
    truth: Annotated[Path, typer.Option(help="Labels of the pairs: perturbation, gene, label.")],
    draws: Annotated[int, typer.Option(help="Bootstrap draws of perturbations.", min=1)] = 200,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Score predicted effects: one AUC a gene over the perturbations that it is asked with, mean over genes.

    Example: cellmodel perturb-eval predicted.tsv shuffled.tsv --truth truth.tsv --json
    """
    from dataclasses import asdict

    from cellmodel.bench.perturbations import evaluate_predictions

    found = evaluate_predictions(predictions, truth, n_draws=draws, seed=seed)
    show({"truth": str(truth), "predictions": [asdict(one) for one in found]}, table(_EVAL, found), json=json)
