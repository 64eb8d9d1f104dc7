"""Effects of perturbations on all genes, from cells of a screen: measured, and predicted for those never seen."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellmodel.core.errors import InputUnusable
from cellmodel.core.tools import Kb, forwards_to, open_kb, path_of, tool
from cellmodel.io.cells import Cells, cells_from_anndata, obs_columns, read_cells
from cellmodel.io.records import h5ad_safe, input_record
from cellmodel.io.writers import cells_target, check_targets, write_cells
from cellmodel.perturb.effects import COVERAGE, MeasuredEffects, measure_effects, predict_effects, pseudo_replicates
from cellmodel.perturb.predict import PREDICTED, TRAINED, PerturbConfig
from cellmodel.perturb.texts import GeneTexts, Neighbor, TextKnowledge, gene_texts, nearest_trained
from cellmodel.pp.normalize import log_expression
from cellmodel.tl._cluster import VALUES, cluster, split_settings
from genekb.files.tables import read_list

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)
KEY: Final = "cellmodel_perturb"


@tool
@forwards_to(cluster, "overwrite", "copy", only=VALUES)
def perturb(
    adata: "AnnData | str | Path",
    kb: Kb,
    *,
    genes: str | Sequence[str],
    perturbation_key: str = "perturbation",
    control: str = "non-targeting",
    replicate_key: str | None = None,
    knowledge: TextKnowledge = "real",
    encoder: str | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> "AnnData":
    """Predict the effect of perturbations never seen on every gene, from the cells of a screen.

    An effect is the mean log expression of perturbed cells less that of control cells of the same replicate. It is
    predicted by kernel ridge regression on the texts of the perturbed genes; settings and the interval come from
    trained perturbations that are predicted by others. The effect on the perturbed gene itself is not predicted.

    Returns a new AnnData with a row for each of ``genes`` and a column a gene: the layers ``mean`` (and ``X``),
    ``lower`` and ``upper`` (95 %), in natural logarithms; ``obs["source"]`` is ``trained`` where the screen has the
    perturbation, whose own effect is given then, else ``predicted``; ``uns["cellmodel_perturb"]`` says what was chosen
    and how much of the variance it explains out of fold. ``adata`` is left as it is.

    From the shell: ``cellmodel perturb``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory, or a file.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    genes
        Perturbations to give effects of, by symbol; also with commas between them, or a file of them.
    perturbation_key
        Column of obs with the perturbed gene of each cell; cells without one are left out.
    control
        Value of that column for control cells.
    replicate_key
        Column of obs with replicates; cells are divided into three by a hash of their names if None, which makes
        intervals of measured effects too narrow.
    knowledge
        ``real`` texts, or a control: ``shuffled``, ``masked`` (without symbols of genes and words of the own
        name), ``name`` (full names alone), ``symbol`` (characters of symbols).
    encoder
        Encoder of the store; its first one if None.
    output
        File for the effects, .h5ad or .zarr.
    overwrite
        Whether that file may be replaced.
    settings
        Arguments of :func:`cluster`: where the values are.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, numpy as np, cellmodel as cm, genekb as gk
    >>> genes = gk.open("demo").to_frame()["symbol"].tolist()[:40]
    >>> adata = anndata.AnnData(np.random.default_rng(0).poisson(3, (120, 40)).astype(np.float32))
    >>> adata.var_names = genes
    >>> adata.obs["perturbation"] = (["non-targeting"] * 10 + genes[:20]) * 4
    >>> adata.obs["batch"] = np.repeat(["1", "2"], 60)
    >>> effects = cm.tl.perturb(adata, "demo", genes=["CD3D", genes[0]], replicate_key="batch")
    >>> effects.shape, effects.obs["source"].tolist()
    ((2, 40), ['predicted', 'trained'])
    """
    _, read, _ = split_settings(settings)
    path, source = path_of(output), Path(adata) if isinstance(adata, str | Path) else None
    if path is not None:
        check_targets([cells_target(path)], inputs=[source] if source else [], overwrite=overwrite)
    names = read_wanted(genes) if isinstance(genes, str) else tuple(genes)
    config, store = PerturbConfig(encoder=encoder, knowledge=knowledge), open_kb(kb)
    cells = read_cells(source, read) if source else cells_from_anndata(adata, read)
    for note in cells.notes:
        log.info("%s", note)
    measured = _measure(cells, perturbation_key, control, replicate_key)
    every = sorted({*measured.names, *names, *cells.names})
    texts = gene_texts(every, store, encoder=encoder, knowledge=knowledge)
    effects = _effects(cells, measured, texts, names)
    params = {"genes": names, "perturbation_key": perturbation_key, "control": control, "replicate_key": replicate_key}
    record = {
        "params": params | asdict(config),
        "replicates": replicate_key or "pseudo-replicates: cells divided by a hash of their names",
        **input_record(cells),
        **asdict(texts.lineage),
    }
    effects.uns[KEY] = h5ad_safe(effects.uns[KEY] | record)
    if path is not None:
        write_cells(effects, path, overwrite=overwrite)
    return effects


def read_wanted(text: str) -> tuple[str, ...]:
    """Names of genes: with commas between them, or the lines of a file of that name."""
    path = Path(text)
    parts = read_list(path, "a list of genes", error=InputUnusable) if path.is_file() else text.split(",")
    names = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not names:
        raise InputUnusable(f"{text!r} names no gene; give names with commas between them, or a file with one a line")
    return names


def _measure(cells: Cells, perturbation_key: str, control: str, replicate_key: str | None) -> MeasuredEffects:
    keys = [perturbation_key, *([replicate_key] if replicate_key else [])]
    hint = "name columns with `perturbation_key` and `replicate_key`"
    columns = obs_columns(cells.adata, keys, source=cells.source, hint=hint)
    if replicate_key:
        replicates = columns[replicate_key]
    else:
        replicates = pseudo_replicates(cells.adata.obs_names.astype(str).tolist())
        log.warning(
            "no replicates named: cells are divided into three by their names, which vary less than experiments do, so "
            "that intervals of measured effects are too narrow; name a column with `replicate_key`"
        )
    return measure_effects(log_expression(cells), columns[perturbation_key], replicates, control=control)


def _effects(cells: Cells, measured: MeasuredEffects, texts: GeneTexts, names: Sequence[str]) -> "AnnData":
    """Give mean and interval of the effect on every gene, and what was chosen to predict them."""
    import pandas as pd
    from anndata import AnnData
    from scipy.stats import t as student

    row_of = {name: row for row, name in enumerate(texts.names)}
    trained, wanted, genes = (np.array([row_of[name] for name in of]) for of in (measured.names, names, cells.names))
    # place among the measured ones of each wanted perturbation, by whatever name; None where it was not perturbed
    keys = [int(gene_id) or name for gene_id, name in zip(texts.gene_ids, texts.names, strict=True)]
    by_key = {keys[row]: place for place, row in enumerate(trained.tolist())}
    measured_at = [by_key.get(keys[row]) for row in wanted.tolist()]
    effects = measured.mean.copy()  # but that on the perturbed gene itself, which no other gene shares: its mean
    ids, columns = texts.gene_ids, texts.gene_ids[genes]
    for at, perturbed in enumerate(trained.tolist()):
        own = np.flatnonzero((columns == ids[perturbed]) & (columns > 0))
        others = np.delete(np.arange(len(effects)), at)
        effects[at, own] = measured.mean[np.ix_(others, own)].mean(axis=0)
    vectors = texts.vectors
    found = predict_effects(effects, vectors[trained], measured.names, new=vectors[wanted], gene_vectors=vectors[genes])
    mean, half = found.mean.copy(), np.tile(found.half_width, (len(wanted), 1))
    for place, row in enumerate(measured_at):
        if row is not None:
            mean[place] = measured.mean[row]
            degrees = max(int(measured.n_replicates[row]) - 1, 1)
            half[place] = measured.error[row] * student.ppf((1 + COVERAGE) / 2, degrees)
    layers = {"mean": mean, "lower": mean - half, "upper": mean + half}
    layers = {key: values.astype(np.float32) for key, values in layers.items()}
    near = nearest_trained(wanted.tolist(), trained, texts)
    rows = [
        _row(measured, place, neighbors, has_text=known)
        for place, neighbors, known in zip(measured_at, near, texts.has_vector[wanted].tolist(), strict=True)
    ]
    obs, var = pd.DataFrame(rows, index=list(names)), pd.DataFrame({"gene_id": columns}, index=list(cells.names))
    record = {
        "settings": asdict(found.settings),
        "explained_out_of_fold": found.explained,
        "n_trained": len(measured.names),
        "coverage": COVERAGE,
    }
    return AnnData(X=layers["mean"].copy(), obs=obs, var=var, layers=layers, uns={KEY: record})


def _row(measured: MeasuredEffects, place: int | None, near: Sequence[Neighbor], *, has_text: bool) -> dict[str, Any]:
    """Say what effects are from: the perturbed cells, or those of the trained perturbations with the nearest texts."""
    shown = near if place is None else ()
    return {
        "source": PREDICTED if place is None else TRAINED,
        "note": "" if has_text or place is not None else "no text: mean of the trained perturbations",
        "n_cells": 0 if place is None else int(measured.n_cells[place]),
        "nearest": ", ".join(one.name for one in shown),
        "similarity": ", ".join(f"{one.similarity:.3f}" for one in shown),
        "sentences": " | ".join(one.sentence for one in shown if one.sentence),
    }
