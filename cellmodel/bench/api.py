"""Benchmark recipes, score clusters and predicted effects: `cellmodel bench`, `eval`, `perturb --truth`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cellmodel.bench.changes import parse_changes
from cellmodel.bench.integration import IntegrationReport, evaluate_integration
from cellmodel.bench.jobs import ESTIMATED, GIVEN, BenchConfig, DataSet, find_datasets
from cellmodel.bench.metrics import Scores, evaluate_file, score_columns
from cellmodel.bench.perturbations import EffectScores, evaluate_predictions
from cellmodel.bench.runner import BenchResult, run_bench
from cellmodel.core.tools import Kb, Paths, names_of, open_kb, paths_of
from cellmodel.io.cells import ReadConfig, obs_columns
from genekb import Store
from genekb.core.python import for_python

if TYPE_CHECKING:
    from anndata import AnnData

Names = str | Sequence[str]  # a list, or text with commas between
SEEDS = (0, 1, 2, 3, 4)


@for_python
def bench(
    path: str | Path,
    output: str | Path,
    *,
    recipes: Names = "fused,pca-kmeans,pca-leiden",
    seeds: Sequence[int] = SEEDS,
    kb: Kb | Sequence[Kb] = (),
    encoder: str | None = None,
    label_key: str | None = None,
    listing: str | Path | None = None,
    data: Names = (),
    n_clusters: int | Literal["given", "estimated", "both", "auto"] | None = None,
    settings: str | Sequence[str] = (),
    off: bool = False,
    batch_key: str | None = None,
    jobs: int = 1,
    read: ReadConfig | None = None,
) -> BenchResult:
    """Compare recipes on labeled files, or on changes of one, as `cellmodel bench` does; labels score alone.

    ``path``: a folder of ``.h5ad`` files, or one file. ``recipes``: ``RECIPE[+HEAD][@KNOWLEDGE]`` each. ``kb``: stores,
    of which the one that knows most genes of a file is taken. ``label_key``: column of obs with labels, ``cell_type``
    in a folder; a file may have none where something is changed. ``n_clusters``: a number, ``estimated`` (or ``auto``),
    ``given``, the number of types, or ``both``; by default both in a folder, of one file given where it has labels.

    What is changed, one at a time beside the complete run: ``settings``, ``KEY=a,b,c`` each, such as
    ``n_top_genes=500,1000``, also ``thin``, ``drop_cells`` and ``dropout``, fractions of the counts to keep, of the
    cells to leave out, of the values above zero to set to zero; with ``off`` each part of a recipe is replaced or left
    out: knowledge, text paths, objectives.

    ``output``, ``batch_key``: see :class:`cellmodel.bench.jobs.BenchConfig`; ``listing``, ``data``: see
    :func:`cellmodel.bench.jobs.find_datasets`. Raises ``InputUnusable`` if there is nothing to score; ``ValueError`` if
    arguments do not go together.
    """
    changes, where = parse_changes(settings), Path(path)
    if where.is_file():
        datasets = [_one_file(where, label_key, read, is_changed=bool(changes) or off, n_clusters=n_clusters)]
        ways = n_clusters or ("given" if label_key else "estimated")
    else:
        table = None if listing is None else Path(listing)
        datasets = find_datasets(where, listing=table, label_key=label_key or "cell_type", names=names_of(data))
        datasets = [replace(one, read=read) if read else one for one in datasets]
        ways = n_clusters or "both"
    config = BenchConfig(
        variants=names_of(recipes),
        output=Path(output),
        seeds=tuple(seeds),
        stores=tuple(Path(open_kb(one).folder) for one in ([kb] if isinstance(kb, str | Path | Store) else kb)),
        encoder=encoder,
        n_clusters=(GIVEN, ESTIMATED) if ways == "both" else (ESTIMATED if ways == "auto" else str(ways),),
        changes=tuple(changes),
        with_parts_off=off,
        n_processes=jobs,
        batch_key=batch_key,
    )
    return run_bench(datasets, config)


def _one_file(
    path: Path, label_key: str | None, read: ReadConfig | None, *, is_changed: bool, n_clusters: object
) -> DataSet:
    if label_key is None and n_clusters in {"given", "both"}:
        raise ValueError("the given number of clusters is that of the types; give `label_key`, too")
    if label_key is None and not is_changed:
        raise ValueError("nothing is to be scored; give `label_key`, or something to change, in `settings`")
    return DataSet(name=path.stem, path=path, label_key=label_key, read=read or ReadConfig())


@for_python
def eval(
    cells: "AnnData | str | Path",
    *,
    truth: str,
    pred: str = "cellmodel",
    batch_key: str | None = None,
    use_rep: Names = (),
    confounded_ok: bool = False,
    read: ReadConfig | None = None,
) -> Scores | IntegrationReport:
    """Score clusters against labels, as `cellmodel eval` does, and with a batch key integration.

    Parameters
    ----------
    cells
        In memory, or a file.
    truth
        Column of obs with the annotator's labels.
    pred
        Column of obs with the clusters.
    batch_key
        Column of obs with the batch of each cell: scores of integration (scIB), too.
    use_rep
        With ``batch_key``: embedding of obsm that is scored, too; one or several.
    confounded_ok
        With ``batch_key``: whether scores are given although no type is in two batches.
    read
        Where in the cells the values and the gene names are, for integration.

    Raises
    ------
    InputUnusable
        If a column is missing.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> scores = cm.bench.eval(anndata.read_h5ad("clustered.h5ad"), truth="label", pred="label")
    >>> scores.ari, scores.accuracy
    (1.0, 1.0)
    """
    if batch_key is not None:
        return evaluate_integration(
            Path(cells) if isinstance(cells, str) else cells, truth=truth, batch_key=batch_key, key=pred,
            use_rep=names_of(use_rep), confounded_ok=confounded_ok, read=read,
        )  # fmt: skip
    if use_rep or confounded_ok:
        raise ValueError("`use_rep` and `confounded_ok` are of scores of integration; give `batch_key`, too")
    if isinstance(cells, str | Path):
        return evaluate_file(Path(cells), truth=truth, pred=pred)
    source = "AnnData in memory"
    return score_columns(obs_columns(cells, (truth, pred), source=source), truth, pred, source=source)


@for_python
def perturb_eval(
    predictions: Paths, truth: str | Path, *, draws: int = 200, random_state: int = 0
) -> list[EffectScores]:
    """Score predicted effects of perturbations, as `cellmodel perturb --truth` does, several tables at once.

    ``predictions``: tables of `cellmodel perturb`; ``truth``: table with the label of each pair; ``draws``: of the
    bootstrap.
    """
    return evaluate_predictions(paths_of(predictions), Path(truth), n_draws=draws, seed=random_state)
