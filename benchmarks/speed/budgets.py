"""Every budget that a quarter of an hour can check, beside what else a user would run; fails where one is missed.

    python -m benchmarks.speed.budgets --output results [--parts startup,store,cells] [--scale]

Calls the benchmarks of each subject, in the order of the parts, and writes ``budgets.json`` and ``budgets.md`` after
each. Figure and peer come from the same run. Of seconds, the smaller of wall and processor time is held against the
budget: on a busy machine wall time tells of others. ``--scale`` adds 100,000 cells: half an hour more.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.lib.protocol import build_stores, command_line
from benchmarks.quality.genes import update
from benchmarks.speed import chain, cluster, encode, open, parse, scale, startup

N_TEXTS = 300
SCALE_SOURCE = "kang_ctrl_stim_12261"
N_CELLS = {cluster.SMALL: "3,874 cells x 16,791 genes", cluster.LARGE: "12,261 cells x 1,287 genes"}
PLACES_OF = {"s": 2, "ms": 0, "MB": 0, "texts": 0, "times": 2, "cosine": 5}


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A measured figure with its limit and the peers of the same run.

    Parameters
    ----------
    value, limit
        In ``unit``; the limit is a ceiling, or a floor where ``is_floor``.
    processor
        Processor time beside a wall time, in the same unit.
    peers
        What else a user would run → its figure in the same unit.
    command
        Benchmark that measures this alone.
    """

    subject: str
    what: str
    value: float
    unit: str
    limit: float
    is_floor: bool = False
    processor: float | None = None
    peers: dict[str, float] = field(default_factory=dict)
    command: str

    @property
    def is_missed(self) -> bool:
        """Whether the figure is on the wrong side of its limit; NaN always is."""
        if self.is_floor:
            return not self.value >= self.limit
        return not min(self.value, self.value if self.processor is None else self.processor) <= self.limit


def startup_figures(_: Path) -> Iterator[Figure]:
    """Give both imports and the slowest help of each command, beside the slowest import that a user knows."""
    starts = {start.what: start for start in startup.measure_all()}
    helps = [start for name, start in starts.items() if name.endswith("--help")]
    shown = {code: (starts[code], limit) for code, limit in startup.IMPORT_S.items()}
    for name in ("genekb", "cellmodel"):
        own = [start for start in helps if start.what.split()[0] == name]
        slowest = max(own, key=lambda start: start.judged_s)
        shown[f"slowest of {len(own)}: {slowest.what}"] = (slowest, startup.HELP_S)
    peers = {"Python alone": starts["pass"].wall_s}
    peers |= {code: starts[code].wall_s for code in ("import torch", "import scanpy")}
    for what, (start, limit) in shown.items():
        yield Figure(
            subject="start-up", what=what, value=start.wall_s, processor=start.cpu_s, unit="s", limit=limit,
            peers=peers, command="speed/startup.py",
        )  # fmt: skip


def opening(_: Path) -> Iterator[Figure]:
    """Give the time to open, align and take vectors, and what of the table is copied."""
    store, *others = open.measure_all()
    yield Figure(
        subject="store", what="open, align 2,000 names, give vectors (median)", unit="ms", limit=open.BUDGET_MS,
        value=store["ms_median"], processor=store["ms_median_cpu"],
        peers={row["way"]: row["ms_median"] for row in others}, command="speed/open.py",
    )  # fmt: skip
    yield Figure(
        subject="store", what="the first time in a process", unit="ms", limit=open.BUDGET_FIRST_MS,
        value=store["ms_first"], processor=store["ms_first_cpu"],
        peers={row["way"]: row["ms_first"] for row in others}, command="speed/open.py",
    )  # fmt: skip
    yield Figure(
        subject="store", what="genekb search, from the shell, wcp", unit="s", limit=open.BUDGET_SEARCH_S,
        value=store["search_s"], processor=store["search_cpu_s"], command="speed/open.py",
    )  # fmt: skip
    yield Figure(
        subject="store", what="share of the table that this allocates", unit="share", limit=open.BUDGET_SHARE,
        value=store["share_of_table_copied"], peers={"any pickle": 1.0}, command="speed/open.py",
    )  # fmt: skip


def parsing(_: Path) -> Iterator[Figure]:
    """Give time and memory of parsing NCBI's human files into a store."""
    store, pandas = parse.measure_all()
    yield Figure(
        subject="store", what=parse.OURS, unit="s", limit=parse.BUDGET_S, value=store["seconds"],
        processor=store["cpu_s"], peers={pandas["way"]: pandas["seconds"]}, command="speed/parse.py",
    )  # fmt: skip
    yield Figure(
        subject="store", what=f"{parse.OURS}, peak", unit="MB", limit=parse.BUDGET_MB,
        value=store["peak_mb"], peers={pandas["way"]: pandas["peak_mb"]}, command="speed/parse.py",
    )  # fmt: skip


def encoding(_: Path) -> Iterator[Figure]:
    """Give speed-up (the smaller one, by wall or processor) and agreement of the fastest way to run MiniLM."""
    rows, _about = encode.measure_all(N_TEXTS)
    speed_up = {row["name"]: min(row["ratio"], row["ratio_cpu"]) for row in rows}
    agreeing = [row for row in rows if row["name"] in encode.CANDIDATES and encode.agrees(row)]
    fastest = max(agreeing, key=lambda row: speed_up[row["name"]], default=rows[0])
    yield Figure(
        subject="store", what=f"MiniLM in {fastest['name']}: speed over SentenceTransformer.encode", unit="times",
        limit=encode.BAR_RATIO, is_floor=True, value=speed_up[fastest["name"]],
        peers={name: ratio for name, ratio in speed_up.items() if name != fastest["name"]}, command="speed/encode.py",
    )  # fmt: skip
    yield Figure(
        subject="store", what=f"MiniLM in {fastest['name']}: mean cosine to it", unit="cosine", is_floor=True,
        limit=encode.BAR_COSINE, value=fastest["cosine_mean_uncut"], command="speed/encode.py",
    )  # fmt: skip


def updating(folder: Path) -> Iterator[Figure]:
    """Give the texts that an update encodes, which are those that changed and no others."""
    row = update.measure("human", "wcp", folder / "update")
    yield Figure(
        subject="store", what="texts encoded by an update 2020-01 to 2022-11", unit="texts", limit=row["n_new_texts"],
        value=row["n_encoded"], peers={"all texts of the new release": row["n_texts"]}, command="genes/update.py",
    )  # fmt: skip
    yield Figure(
        subject="store", what="its vectors: lowest cosine to encoding anew", unit="cosine", is_floor=True,
        limit=update.MIN_COSINE, value=row["lowest_cosine_to_encoding_anew"], command="quality/genes/update.py",
    )  # fmt: skip


def cells(folder: Path) -> Iterator[Figure]:
    """Give time and memory of `cellmodel cluster` from the shell, beside scanpy's steps."""
    recipes = cluster.RECIPES.split(",")
    runs = list(cluster.measure_all(recipes, build_stores(folder / "home")[0]))
    for run in runs:
        if run.limits is None:
            continue
        scanpy = {one.recipe: one for one in runs if one.data == run.data and one.recipe.startswith("scanpy")}
        what = f"{run.recipe}, {N_CELLS[run.data]}"
        yield Figure(
            subject="cells", what=what, unit="s", limit=run.limits[0], value=run.seconds, processor=run.cpu_s,
            peers={name: one.seconds for name, one in scanpy.items()}, command="speed/cluster.py",
        )  # fmt: skip
        yield Figure(
            subject="cells", what=f"{what}, peak", unit="MB", limit=run.limits[1], value=run.peak_mb,
            peers={name: one.peak_mb for name, one in scanpy.items()}, command="speed/cluster.py",
        )  # fmt: skip
    for data, n_cells in N_CELLS.items():
        for kind, ratio in zip(("time", "memory"), cluster.ratios(runs, data) or (), strict=False):
            yield Figure(
                subject="cells", what=f"fused, {n_cells}: {kind} over scanpy's with UMAP", unit="times",
                limit=cluster.MAX_RATIO, value=ratio, command="speed/cluster.py",
            )  # fmt: skip
    yield Figure(
        subject="cells", what=f"the expression head alone, {N_CELLS[cluster.SMALL]}", unit="s",
        limit=cluster.HEAD_BUDGET_S, value=cluster.expression_head_s(), command="speed/cluster.py",
    )  # fmt: skip


def chain_figures(folder: Path) -> Iterator[Figure]:
    """Give the time of `cellmodel run`, and of the single commands on clustered cells."""
    for one in chain.measure_all(str(build_stores(folder / "home")[0])):
        yield Figure(
            subject="cells", what=one.what, unit="s", limit=one.limit_s, value=one.seconds, processor=one.cpu_s,
            command="speed/chain.py",
        )  # fmt: skip


def scale_figures(folder: Path) -> Iterator[Figure]:
    """Give time and memory of `cellmodel cluster` over scanpy's, with many cells, and their growth."""
    store, runs = build_stores(folder / "home")[0], list[scale.Run]()
    for n_cells in (scale.BASE, scale.MANY, scale.LARGE):
        runs += scale.measure_size(SCALE_SOURCE, n_cells, store=store, with_peer=True, k=("estimated",))
    common = {"subject": "many cells", "unit": "times", "command": "speed/scale.py"}
    for run in runs:
        if (found := scale.ratios(run, runs)) is None:
            continue
        most = scale.MAX_RATIO_MANY if run.n_cells >= scale.MANY else scale.MAX_RATIO
        what = f"{run.what}, {run.n_cells:,} synthetic cells"
        yield Figure(what=f"{what}: time over scanpy's", limit=most, value=found[0], **common)
        yield Figure(what=f"{what}: memory over scanpy's", limit=scale.MAX_RATIO, value=found[1], **common)
        if run.n_cells == scale.LARGE:
            yield Figure(
                what=f"{what}: growth of time over that of cells, from {scale.BASE:,}",
                limit=scale.MAX_GROWTH, value=scale.growth(run, runs), **common,
            )  # fmt: skip


PARTS: dict[str, tuple[Callable[[Path], Iterator[Figure]], ...]] = {
    "startup": (startup_figures,),
    "store": (opening, parsing, encoding, updating),
    "cells": (cells, chain_figures),
    "scale": (scale_figures,),
}
SHORT = "startup,store,cells"


def number(value: float, unit: str) -> str:
    """Write a figure with as many places as its unit deserves."""
    return f"{value:,.{PLACES_OF.get(unit, 3)}f}"


def table(figures: list[Figure]) -> str:
    """Markdown: a section a subject, one line a figure; the ratio of a peer is peer over ours."""
    lines = []
    for subject in dict.fromkeys(figure.subject for figure in figures):
        lines += ["", f"## {subject}", "", "| what | figure | budget | beside it (ratio) | command |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        lines += [row(figure) for figure in figures if figure.subject == subject]
    return "\n".join(lines[1:]) + "\n"


def row(figure: Figure) -> str:
    processor = "" if figure.processor is None else f" ({number(figure.processor, figure.unit)} processor)"
    verdict = ", MISSED" if figure.is_missed else ""
    peers = "; ".join(
        f"{name}: {number(value, figure.unit)}" + (f" ({value / figure.value:.2g} x)" if figure.value else "")
        for name, value in figure.peers.items()
    )
    bound = "at least" if figure.is_floor else "at most"
    return (
        f"| {figure.what} | {number(figure.value, figure.unit)} {figure.unit}{processor} "
        f"| {bound} {figure.limit:,g}{verdict} | {peers} | `{figure.command}` |"
    )


def write(figures: list[Figure], output: Path) -> None:
    """Write what was measured so far, with the load of the machine."""
    output.mkdir(parents=True, exist_ok=True)
    about = {"cores": os.cpu_count(), "load_average": os.getloadavg()}
    rows = [asdict(figure) | {"is_missed": figure.is_missed} for figure in figures]
    (output / "budgets.json").write_text(json.dumps({"about": about, "figures": rows}, indent=1))
    load = f"{about['cores']} cores, load {about['load_average'][2]:.1f} over the last 15 minutes.\n\n"
    (output / "budgets.md").write_text(load + table(figures))


def report(figures: list[Figure], output: Path) -> int:
    """Write and print everything, name what is missed; the exit code."""
    write(figures, output)
    sys.stdout.write(table(figures))
    missed = [figure.what for figure in figures if figure.is_missed]
    sys.stderr.write(f"missed: {', '.join(missed) or 'none'}\n")
    return 1 if missed else 0


def main() -> int:
    """Measure, write, and say what is missed."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--parts", default=SHORT, help=f"Some of {', '.join(PARTS)}.")
    parser.add_argument("--scale", action="store_true", help="Also 100,000 cells, as the part scale does.")
    options = parser.parse_args()
    figures: list[Figure] = []
    parts = [*options.parts.split(","), *(["scale"] if options.scale else [])]
    with tempfile.TemporaryDirectory() as folder:
        for measure in (measure for part in parts for measure in PARTS[part]):
            figures += measure(Path(folder))
            write(figures, options.output)
    return report(figures, options.output)


if __name__ == "__main__":
    sys.exit(main())
