"""Benchmark recipes, and score clusters: `cellmodel bench` and `eval`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from cellmodel.bench.changes import Change, parse_changes
from cellmodel.bench.integration import IntegrationReport, require_scib, score_batches
from cellmodel.bench.jobs import ESTIMATED, GIVEN, BenchConfig, DataSet, find_datasets
from cellmodel.bench.metrics import Scores, score_columns
from cellmodel.bench.runner import BenchResult, run_bench
from cellmodel.core.config import check_seed
from cellmodel.core.tools import Kb, names_of, open_kb
from cellmodel.io.cells import ReadConfig, cells_from_anndata, obs_columns, read_cells, read_obs_columns
from genekb import Store
from genekb.core.python import for_python

if TYPE_CHECKING:
    from anndata import AnnData

Names = str | Sequence[str]  # a list, or text with commas between
Fractions = str | float | Sequence[float]
_MOST_SEEDS: Final = 10_000


@for_python
def bench(  # noqa: PLR0913 - those of the command
    path: str | Path,
    output: str | Path,
    *,
    recipes: Names = "fused,pca-kmeans,pca-leiden",
    seeds: str | Sequence[int] = "0-4",
    kb: Kb | Sequence[Kb] = (),
    encoder: str | None = None,
    label_key: str | None = None,
    listing: str | Path | None = None,
    data: Names | None = None,
    n_clusters: int | Literal["given", "estimated", "both", "auto"] | None = None,
    settings: Names = (),
    thin: Fractions | None = None,
    drop_cells: Fractions | None = None,
    dropout: Fractions | None = None,
    off: bool = False,
    batch_key: str | None = None,
    jobs: int = 1,
    read: ReadConfig | None = None,
) -> BenchResult:
    """Compare recipes on labeled files, or on changes of one, as `cellmodel bench` does; labels score alone.

    ``settings``, ``thin``, ``drop_cells``, ``dropout`` and ``off`` each change one thing, beside the complete run.

    Parameters
    ----------
    path
        Folder of labeled .h5ad files, or one file; a file may have no labels where something is changed.
    output
        Folder of the results; a run that was cut goes on.
    recipes
        RECIPE[+HEAD][@KNOWLEDGE] parted by commas, e.g. fused,scrcl+leiden@shuffled.
    seeds
        Seeds: numbers or ranges parted by commas, e.g. 0-4.
    kb
        Stores, of which the one that knows most genes of a file is taken.
    encoder
        Encoder of the store; its first one if None.
    label_key
        Column of obs with labels, for scores; cell_type in a folder.
    listing
        TOML with a table a file: file, label_key, labels (their origin), sha256.
    data
        Only these data sets, names parted by commas.
    n_clusters
        given (of the types), estimated, both, or a number; both if None, of one file given with labels.
    settings
        KEY=a,b,c: values of a setting, such as n_top_genes; one or several.
    thin
        Fractions of the counts to keep, e.g. 0.5,0.25,0.1.
    drop_cells
        Fractions of the cells to leave out.
    dropout
        Fractions of the values above zero to set to zero.
    off
        Leave out each part of a recipe: knowledge, text paths, objectives.
    batch_key
        Column of obs with the batch of each cell: integrated by recipes, scored by scIB.
    jobs
        Processes at once, each with one thread.
    read
        Where in the cells the values and the gene names are.

    Raises
    ------
    InputUnusable
        If there is nothing to score.
    ValueError
        If arguments do not go together.
    """
    where, folder, numbers = Path(path), Path(output), _parse_seeds(seeds)
    changes = _parse_changes(settings, thin=thin, drop_cells=drop_cells, dropout=dropout)
    if where.is_file():
        datasets = [_one_file(where, label_key, read, is_changed=bool(changes) or off, n_clusters=n_clusters)]
        ways = _parse_ways(n_clusters, default="given" if label_key else "estimated")
    else:
        ways = _parse_ways(n_clusters, default="both")
        table, names = None if listing is None else Path(listing), names_of(data or ())
        datasets = find_datasets(where, listing=table, label_key=label_key or "cell_type", names=names)
        datasets = [replace(one, read=read) if read else one for one in datasets]
    config = BenchConfig(
        variants=names_of(recipes),
        output=folder,
        seeds=numbers,
        stores=tuple(Path(open_kb(one).folder) for one in ([kb] if isinstance(kb, str | Path | Store) else kb)),
        encoder=encoder,
        n_clusters=ways,
        changes=changes,
        with_parts_off=off,
        n_processes=jobs,
        batch_key=batch_key,
    )
    return run_bench(datasets, config)


def _parse_seeds(seeds: str | Sequence[int]) -> tuple[int, ...]:
    """Read seeds: numbers or ranges parted by commas, each seed once."""
    if not isinstance(seeds, str):
        return tuple(seeds)
    found: dict[int, None] = {}
    for part in seeds.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise ValueError(f"`seeds` are numbers or ranges parted by commas, such as 0-4, not {seeds!r}")
        start, end = int(first), int(last or first)
        check_seed(start)
        check_seed(end)
        if end < start:
            raise ValueError(f"`seeds` {part.strip()} ends below its start; write {end}-{start}")
        if end - start >= _MOST_SEEDS:
            raise ValueError(f"`seeds` {part.strip()} names {end - start + 1:,} seeds, at most {_MOST_SEEDS:,} are run")
        found |= dict.fromkeys(range(start, end + 1))
    return tuple(found)


def _parse_changes(settings: Names, **fractions: Fractions | None) -> tuple[Change, ...]:
    """Read what is changed: settings, and fractions by their names."""
    given = [settings] if isinstance(settings, str) else list(settings)
    for name, values in fractions.items():
        if values is not None:
            text = values if isinstance(values, str) else ",".join(map(str, np.atleast_1d(values)))
            given.append(f"{name}={text}")
    return tuple(parse_changes(given))


def _parse_ways(n_clusters: object, *, default: str) -> tuple[str, ...]:
    """Read the ways in which the number of clusters is found."""
    way = default if n_clusters is None else str(n_clusters)
    ways = {"both": (GIVEN, ESTIMATED), "auto": (ESTIMATED,)}.get(way, (way,))
    if not {GIVEN, ESTIMATED}.issuperset(ways) and not (way.isdecimal() and int(way) >= 1):
        raise ValueError(f"`n_clusters` is a number >= 1, auto, given, estimated or both, not {way!r}")
    return ways


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
        require_scib()
        given = read_cells(Path(cells), read) if isinstance(cells, str | Path) else cells_from_anndata(cells, read)
        return score_batches(
            given, truth=truth, pred=pred, batch_key=batch_key, use_rep=names_of(use_rep), confounded_ok=confounded_ok
        )
    if use_rep or confounded_ok:
        raise ValueError("`use_rep` and `confounded_ok` are of scores of integration; give `batch_key`, too")
    if isinstance(cells, str | Path):
        return score_columns(read_obs_columns(Path(cells), (truth, pred)), truth, pred, source=str(cells))
    source = "AnnData in memory"
    return score_columns(obs_columns(cells, (truth, pred), source=source), truth, pred, source=source)
