"""What `cellmodel bench`, `sweep`, `ablate`, `eval` and `perturb-eval` do, as functions: ``cm.bench.sweep(...)``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cellmodel.bench.ablation import Ablation
from cellmodel.bench.ablation import ablate as run_ablation
from cellmodel.bench.changes import DROP_CELLS, DROPOUT, THIN, Change, default_of, parse_fractions, parse_setting
from cellmodel.bench.integration import IntegrationReport, evaluate_integration
from cellmodel.bench.jobs import ESTIMATED, GIVEN, OWN_HEAD, BenchConfig, DataSet, find_datasets, variant_name
from cellmodel.bench.metrics import Scores, evaluate_file, score_columns
from cellmodel.bench.perturbations import EffectScores, evaluate_predictions
from cellmodel.bench.runner import BenchResult, run_bench
from cellmodel.core.options import Paths, names_of, paths_of
from cellmodel.core.tools import Kb, open_kb
from cellmodel.io.cells import ReadConfig, obs_columns
from cellmodel.io.writers import check_targets
from cellmodel.recipes.heads import find_head
from genekb import Store
from genekb.core.python import for_python
from genekb.files.replace import Target

if TYPE_CHECKING:
    from anndata import AnnData

Names = str | Sequence[str]  # a list, or text with commas between
Fractions = str | Sequence[float]
SEEDS = (0, 1, 2, 3, 4)


@for_python
def bench(
    folder: str | Path,
    output: str | Path,
    *,
    recipes: Names = "fused,pca-kmeans,pca-leiden",
    seeds: Sequence[int] = SEEDS,
    kb: Kb | Sequence[Kb] = (),
    encoder: str | None = None,
    label_key: str = "cell_type",
    listing: str | Path | None = None,
    data: Names = (),
    n_clusters: Literal["given", "estimated", "both"] = "both",
    oracle: bool = False,
    batch_key: str | None = None,
    jobs: int = 1,
) -> BenchResult:
    """Compare recipes on the labelled files of a folder, as `cellmodel bench` does; labels are read for scoring alone.

    ``recipes``: ``RECIPE[+HEAD][@KNOWLEDGE]`` each. ``kb``: stores, of which the one that knows most genes of a file is
    taken. ``output``, ``n_clusters``, ``oracle``, ``batch_key``: see :class:`cellmodel.bench.jobs.BenchConfig`;
    ``listing``, ``data``: see :func:`cellmodel.bench.jobs.find_datasets`. Raises ``InputUnusable`` if there is nothing
    to score.
    """
    config = BenchConfig(
        variants=names_of(recipes),
        output=Path(output),
        seeds=tuple(seeds),
        stores=_folders(kb),
        encoder=encoder,
        n_clusters=(GIVEN, ESTIMATED) if n_clusters == "both" else (n_clusters,),
        with_oracle=oracle,
        n_processes=jobs,
        batch_key=batch_key,
    )
    table = None if listing is None else Path(listing)
    return run_bench(find_datasets(Path(folder), listing=table, label_key=label_key, names=names_of(data)), config)


@for_python
def sweep(
    path: str | Path,
    output: str | Path,
    kb: Kb | None = None,
    *,
    settings: str | Sequence[str] = (),
    thin: Fractions = (),
    drop_cells: Fractions = (),
    dropout: Fractions = (),
    recipes: Names = "fused,pca-kmeans,pca-leiden",
    seeds: Sequence[int] = (0, 1, 2),
    encoder: str | None = None,
    truth: str | None = None,
    n_clusters: int | Literal["given", "auto"] | None = None,
    jobs: int = 1,
    plot: str | Path | None = None,
    overwrite: bool = False,
    read: ReadConfig | None = None,
) -> BenchResult:
    """Show how recipes depend on settings, depth, dropout and the number of cells, as `cellmodel sweep` does.

    ``settings``: ``KEY=a,b,c`` each, such as ``n_top_genes=500,1000``. ``thin``, ``drop_cells``, ``dropout``: fractions
    of the counts to keep, of the cells to leave out, of the values above zero to set to zero. ``truth``: column of obs
    with labels, for scores. ``n_clusters``: a number, ``auto``, or ``given``, the number of types, which is the default
    with ``truth``. ``plot``: figure of the curves. Raises ``ValueError`` if nothing is to be changed.
    """
    changes = find_changes(settings, thin=thin, drop_cells=drop_cells, dropout=dropout)
    if n_clusters == "given" and truth is None:
        raise ValueError("--n-clusters given is the number of types; give --truth COLUMN, too")
    path, folder, figure = Path(path), Path(output), None if plot is None else Path(plot)
    if figure is not None:
        from cellmodel.pl._canvas import check_format

        targets = [Target(folder, kind="shared", makes_parents=True), Target(check_format(figure))]
        check_targets(targets, inputs=(path,), overwrite=overwrite)
    config = BenchConfig(
        variants=names_of(recipes),
        output=folder,
        seeds=tuple(seeds),
        stores=_folders(kb),
        encoder=encoder,
        n_clusters=(_way(n_clusters or ("given" if truth else "auto")),),
        changes=tuple(changes),
        n_processes=jobs,
    )
    found = run_bench([_data(path, truth, read)], config)
    if figure is not None:
        from cellmodel.pl._sweep import draw_sweep

        unchanged = {change.setting: default_of(change.setting) for change in changes}
        draw_sweep(found.rows, unchanged, figure, overwrite=overwrite)
    return found


@for_python
def ablate(
    path: str | Path,
    kb: Kb | None = None,
    *,
    encoder: str | None = None,
    recipe: str = "fused",
    head: str | None = None,
    n_clusters: int | Literal["auto"] = "auto",
    truth: str | None = None,
    seeds: Sequence[int] = SEEDS,
    read: ReadConfig | None = None,
) -> Ablation:
    """Show what knowledge, text paths and objectives contribute, as `cellmodel ablate` does.

    ``head``: the recipe's own if None; ``truth``: column of obs with labels, for scores.
    """
    if head is not None:
        find_head(head)
    config = BenchConfig(
        variants=(variant_name(recipe, "real", head or OWN_HEAD),),
        seeds=tuple(seeds),
        stores=_folders(kb),
        encoder=encoder,
        n_clusters=(_way(n_clusters),),
    )
    return run_ablation(_data(Path(path), truth, read), config)


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

    ``cells``: in memory, or a file. ``truth``, ``pred``: columns of obs with the annotator's labels, and the clusters.
    ``batch_key``: column with the batch of each cell; ``use_rep``: embeddings of obsm that are scored, too;
    ``confounded_ok``: whether no type may be in two batches. Raises ``InputUnusable`` if a column is missing.

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
        raise ValueError("--use-rep and --confounded-ok are of scores of integration; give --batch-key, too")
    if isinstance(cells, str | Path):
        return evaluate_file(Path(cells), truth=truth, pred=pred)
    source = "AnnData in memory"
    return score_columns(obs_columns(cells, (truth, pred), source=source), truth, pred, source=source)


@for_python
def perturb_eval(
    predictions: Paths, truth: str | Path, *, draws: int = 200, random_state: int = 0
) -> list[EffectScores]:
    """Score predicted effects of perturbations, as `cellmodel perturb-eval` does.

    ``predictions``: tables of `cellmodel perturb`; ``truth``: table with the label of each pair; ``draws``: of the
    bootstrap.
    """
    return evaluate_predictions(paths_of(predictions), Path(truth), n_draws=draws, seed=random_state)


def find_changes(
    settings: str | Sequence[str], *, thin: Fractions, drop_cells: Fractions, dropout: Fractions
) -> list[Change]:
    """List what a sweep changes, one at a time; ``ValueError`` if that is nothing."""
    texts = [settings] if isinstance(settings, str) else settings
    changes = [change for text in texts for change in parse_setting(text)]
    for name, given in ((THIN, thin), (DROP_CELLS, drop_cells), (DROPOUT, dropout)):
        if isinstance(given, str) or len(given):
            changes += parse_fractions(name, given if isinstance(given, str) else ",".join(map(str, given)))
    if not changes:
        raise ValueError("nothing is to be changed; give a setting KEY=a,b,c, --thin, --drop-cells or --dropout")
    return changes


def _folders(kb: Kb | Sequence[Kb] | None) -> tuple[Path, ...]:
    if kb is None:
        return ()
    several = [kb] if isinstance(kb, str | Path | Store) else kb
    return tuple(Path(open_kb(one).folder) for one in several)


def _data(path: Path, truth: str | None, read: ReadConfig | None) -> DataSet:
    return DataSet(name=path.stem, path=path, label_key=truth, read=read or ReadConfig())


def _way(n_clusters: int | str) -> str:
    """Way of the number of clusters, as a benchmark names it."""
    return ESTIMATED if n_clusters == "auto" else str(n_clusters)
