"""The commands `cellmodel classify` and `predict`: labels of a reference or clusters of a model for new cells."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genekb.files.endings import CELLS, ENDINGS, check_ending
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import arguments_of
from genekb_cellmodel_cli.app.output import Columns, show, table
from genekb_cellmodel_cli.app.signature import Arguments
from genekb_cellmodel_cli.cellmodel.cluster import count_clusters

if TYPE_CHECKING:
    from cellmodel.annotate.classify import ClassifyConfig
    from cellmodel.annotate.label_transfer import Transfer
    from cellmodel.bench.n_shot import TrialConfig, TrialRow
    from cellmodel.tl.model.fitted import FittedModel, Predicted
    from genekb import Store

SHARE_TEST = 0.2
NEED_STORE = ("text", "both")


@dataclass(frozen=True, kw_only=True)
class Trials:
    """The n-shot protocol, which is run where there is no reference."""

    n_shot: Annotated[str, typer.Option("--n-shot", help="Labeled cells a class, numbers parted by commas.")] = (
        "1,3,5,10"
    )
    draws: Annotated[int, typer.Option(help="Draws for each number of labeled cells.", min=1)] = 20
    splits: Annotated[
        Literal["n-shot", "stratified", "both"],
        typer.Option(help="Without --reference: few cells a class, or 4/5 of each class to learn from."),
    ] = "n-shot"
    features: Annotated[
        str,
        typer.Option(
            help="Without --reference: expression, text, both, or recipe:NAME for what a recipe would cluster."
        ),
    ] = "expression"

    def config(self, label_key: str, classifier: "ClassifyConfig") -> "TrialConfig":
        """Give the settings; values that cannot be used are wrong usage."""
        from cellmodel.bench.n_shot import TrialConfig

        numbers = self.n_shot.split(",")
        if not all(number.strip().isdigit() and int(number) >= 1 for number in numbers):
            raise typer.BadParameter(f"--n-shot is one or more numbers >= 1 parted by commas, not {self.n_shot!r}")
        return TrialConfig(
            label_key=label_key,
            n_shots=() if self.splits == "stratified" else tuple(map(int, numbers)),
            n_draws=self.draws,
            share_test=None if self.splits == "n-shot" else SHARE_TEST,
            features=self.features,
            classify=classifier,
        )


def classify(
    path: options.CellFile,
    store: options.MaybeStore,
    trials: Trials,
    out: options.CellsOut,
    reference: Annotated[
        Path | None,
        typer.Option(help="Labeled cells to learn from; without, the n-shot protocol is run on the cells."),
    ] = None,
    arguments: Arguments = arguments_of(
        "cellmodel.tl.classify", "reference", unassigned_below={"min": 0.0, "max": 1.0}
    ),
    json: options.Json = False,
) -> None:
    """Transfer the labels of a reference to cells, or measure how few labeled cells a class are enough.

    Example: cellmodel classify query.h5ad --reference ref.h5ad --label-key cell_type --kb human -o out.h5ad
    """
    if reference is None:
        if out != options.CellsOut():
            raise typer.BadParameter("--output and --in-place go with --reference; the n-shot protocol writes no cells")
        _try_out(path, store, trials, arguments, json=json)
        return
    files = out.files(path)
    found = arguments.call(files, reference, _open(store))
    content = {"input": str(path), **_summary(found), "output": files.written}
    shown = ("input", "reference", "store", "encoder", "genes", "n_unlabeled", "mean_confidence", "unassigned_below")
    columns = {"class": "class", "labeled in the reference": "n_reference", "given in the query": "n_query"}
    lines = [f"{key}: {content[key]}" for key in shown if content[key] != ""]
    show(content, [*lines, "", *table(columns, content["classes"]), "", f"output: {files.written}"], json=json)


def _open(store: options.MaybeStore) -> "Store":
    kb = store.open()
    if kb is None:
        raise typer.BadParameter("--reference and --features text need a store to look genes up in: --kb NAME")
    return kb


def _summary(found: "Transfer") -> dict[str, Any]:
    from cellmodel.io.records import lineage_record

    confidence = found.prediction.confidence
    counts = found.n_query
    return {
        "reference": found.reference,
        "store": found.lineage.store_id,
        "encoder": found.lineage.encoder_id,
        **lineage_record(found.made_with),
        "genes_by": found.transfer.genes_by,
        "n_genes": found.n_genes,
        "genes": found.note,
        "head": found.transfer.classify.head,
        "contrastive": found.transfer.classify.contrast,
        "knowledge": found.config.knowledge,
        "seed": found.config.seed,
        "n_cells": len(found.labels),
        "n_unlabeled": found.n_unlabeled,
        "unassigned_below": round(found.limit, 4),
        "share_unassigned": round(counts["unassigned"] / len(found.labels), 4),
        "mean_confidence": round(float(confidence.mean()), 4),
        "classes": [
            {"class": name, "n_reference": n_reference, "n_query": counts[name]}
            for name, n_reference in zip((*found.names, "unassigned"), (*found.n_reference, 0), strict=True)
        ],
    }


def _try_out(path: Path, store: options.MaybeStore, trials: Trials, arguments: Arguments, *, json: bool) -> None:
    """Run the n-shot protocol."""
    from cellmodel.annotate.classify import ClassifyConfig
    from cellmodel.bench.n_shot import run_trials
    from cellmodel.core.config import settings_of
    from cellmodel.io.cells import read_cells

    how = arguments.take("head", "unassigned_below", "device") | {"contrast": arguments.pop("contrastive")}
    protocol = trials.config(arguments.pop("label_key"), ClassifyConfig(**how))
    read = arguments.read()
    arguments.take("genes_by", "key_added", "other_store", "overwrite")
    config = settings_of(**arguments)
    kb = _open(store) if store.kb is not None or trials.features in NEED_STORE else None
    rows = run_trials(read_cells(path, read), kb, config, trials=protocol)
    settings = {
        "input": str(path),
        "features": trials.features,
        "head": how["head"],
        "contrastive": how["contrast"],
        "knowledge": config.knowledge,
        "seed": config.seed,
    }
    show(settings | {"rows": [asdict(row) for row in rows]}, _trial_lines(rows), json=json)


def _trial_lines(rows: "list[TrialRow]") -> Iterator[str]:
    def mean(name: str) -> "Callable[[TrialRow], str]":
        return lambda row: f"{row.mean[name]:.3f} ± {row.sd[name]:.3f}"

    columns: Columns = {
        "labels a class": lambda row: row.n_shot or "stratified",
        "draws": "n_draws",
        "learnt from": "n_train",
        "tested on": "n_test",
        "accuracy": mean("accuracy"),
        "macro-F1": mean("macro_f1"),
        "balanced accuracy": mean("balanced_accuracy"),
    }
    yield from (*table(columns, rows), "")
    recalls = [(name, *(row.recall[name] for row in rows)) for name in rows[0].recall]
    yield from table(("recall of", *(str(row.n_shot or "stratified") for row in rows)), recalls)


def predict(
    paths: Annotated[list[Path], typer.Argument(help="New cells: .h5ad, .zarr, 10x .h5 or mtx folder, .csv, .tsv.")],
    model: Annotated[Path, typer.Option(help="Folder that `cellmodel cluster --save-model` wrote.")],
    out: options.CellsOrFolderOut,
    store: options.MaybeStore,
    engine: options.Engine,
    arguments: Arguments = arguments_of("cellmodel.tl.predict", "model"),
    transpose: options.Transpose = False,
    json: options.Json = False,
) -> None:
    """Embed new cells with a fitted model and give each the cluster of the fitted cells around it.

    A model refuses a store with other texts or vectors than those it was fitted with, and cells of another species.
    Several files are written to a folder, a file a task; what is there already of the same model and input is kept.

    Example: cellmodel predict new.h5ad --model model --kb human -o out.h5ad

    Example: cellmodel predict cells/*.h5ad --model model --kb human -o predicted --engine ray
    """
    if len(paths) > 1 or (out.output is not None and not out.output.suffix):
        _predict_files(paths, _folder(out, n_files=len(paths)), model, store.open(), arguments, engine, json=json)
        return
    if engine != options.Engine():
        raise typer.BadParameter("--engine ray and its options are for several files, written to --output FOLDER")
    from cellmodel.io.writers import check_key
    from cellmodel.tl.model.fitted import load_model

    check_key(arguments["key_added"])
    files = out.files(paths[0], transpose=transpose)
    check_ending(Path(files.written), CELLS, error=typer.BadParameter)
    fitted = load_model(model)
    found = arguments.call(files, fitted, store.open())
    content = {"input": str(paths[0]), **_prediction(fitted, found), "output": files.written}
    show(content, _prediction_lines(content), json=json)


def _folder(out: options.CellsOut, *, n_files: int) -> Path:
    """Give the folder for the cells of several files."""
    if out.output is None or out.in_place or out.output.suffix in ENDINGS[CELLS]:
        raise typer.BadParameter(f"{n_files} files are written to a folder: --output FOLDER")
    return out.output


def _predict_files(
    paths: list[Path], folder: Path, model: Path, kb: "Store | None", arguments: Arguments, engine: options.Engine,
    *, json: bool,
) -> None:  # fmt: skip
    from cellmodel.tl.model.predict_files import PredictConfig, predict_files

    store = kb.folder.absolute() if kb else None
    config = PredictConfig(model=model.absolute(), store=store, read=arguments.read(), **arguments)
    found = predict_files([path.absolute() for path in paths], folder.absolute(), config, engine.config())
    files = [asdict(file) | {"input": str(file.input), "output": str(file.output)} for file in found]
    columns: Columns = {name: name for name in ("input", "n_cells", "share_genes", "mean_confidence", "is_kept")}
    show({"model": str(model), "files": files}, table(columns, files), json=json)


def _prediction(model: "FittedModel", found: "Predicted") -> dict[str, Any]:
    clusters = count_clusters(
        found.labels, found.confidence, names=[str(cluster) for cluster in range(int(model.labels.max()) + 1)]
    )
    for cluster, row in enumerate(clusters):
        row["n_fitted"] = int((model.labels == cluster).sum())
    return {
        "recipe": model.config.recipe_name,
        "store": model.lineage.store_id,
        "encoder": model.lineage.encoder_id,
        "n_cells": len(found.labels),
        "share_genes": round(found.share_genes, 4),
        "clusters": clusters,
    }


def _prediction_lines(content: dict[str, Any]) -> Iterator[str]:
    yield from (f"{key}: {content[key]}" for key in ("input", "recipe", "store", "encoder") if content[key])
    yield from (f"{content['share_genes']:.1%} of the model's genes are in the file", "")
    columns = {
        "cluster": "cluster",
        "cells it was fitted to": "n_fitted",
        "new cells": "n_cells",
        "confidence": "confidence",
    }
    yield from (*table(columns, content["clusters"]), "", f"output: {content['output']}")
