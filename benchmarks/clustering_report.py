"""Tables of ``bench_clustering.py``: recipes beside scanpy, spaces beside the rule, text beside its controls."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from bench_rules import compared, halves
from protocol import bar_line, markdown
from trained_views import SPACES

from cellmodel.core.config import EnsembleConfig, Knowledge

FUSED, JOINT, SCANPY, KMEANS = "fused", "fused, joint space", "scanpy", "pca-kmeans"
BASELINES = (KMEANS, "pca-leiden")
SYSTEMS = ("scllm-dsc", "scsiameseclu", "scrcl", "lowsample")
RIVALS = ("scmae", "desc", "contrastive-sc")
WITHOUT_TEXT = ("scrcl", "scsiameseclu", *RIVALS, *SPACES)
WITH_TEXT = ("scllm-dsc", "lowsample", "genept-w", JOINT)
NOTHING_WITHOUT = ("genept-w", JOINT)
HEADLESS = (JOINT, *SPACES)
CONTROLS: tuple[Knowledge, ...] = ("real", "shuffled", "random", "none")
VARIANTS = (
    *((recipe, "none") for recipe in (SCANPY, FUSED, *BASELINES, *WITHOUT_TEXT)),
    *((recipe, kind) for recipe in WITH_TEXT for kind in CONTROLS if kind != "none" or recipe not in NOTHING_WITHOUT),
)
ESTIMATED = (FUSED, *BASELINES, "scrcl", "scllm-dsc")
SCORES = ("accuracy", "nmi", "ari", "macro_f1")
RULE = ", rule of `fused`"
WEIGHT = EnsembleConfig().modularity_weight
RESOLUTIONS = {"0.5": "scanpy, r = 0.5", "1": "scanpy, r = 1"}
Row = dict[str, Any]
Way = Callable[[Row, Row], Sequence[float]]  # row of `fused`, row of a space → figures of a partition
By = dict[str, list[float]]  # SCORES and the mean of the first three, by data set


def alone(_: Row, row: Row) -> list[float]:
    """Choose among the partitions of the space, by the rule in it."""
    return max(row["pool"], key=lambda each: total(each[6:]))


def added(base: Row, row: Row) -> list[float]:
    """Choose among all partitions, by the rule on the components."""
    return max([*base["pool"], *row["pool"]], key=lambda each: total(each[4:6]))


def agreed(base: Row, row: Row) -> list[float]:
    """Choose among all partitions, by the rule on the components and in the space."""
    judged = [[*each, *inside] for each, inside in zip(base["pool"], row["base"], strict=True)]
    return max([*judged, *row["pool"]], key=lambda each: total(each[4:6]) + total(each[6:]))


def key(name: str, recipe: str, kind: str, seed: int) -> str:
    """Name a row."""
    return f"{name}|{recipe}|{kind}|{seed}"


def total(measures: Sequence[float]) -> float:
    """Score of the rule: separation and a share of modularity."""
    return measures[0] + WEIGHT * measures[1]


WAYS: Mapping[str, Way] = {"alone": alone, "its partitions too": added, "mean of both scores": agreed}


class Report:
    """Tables of rows; a recipe that reads text stands without it where there is no store of the species."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self.rows = rows
        self.names = sorted({key.split("|")[0] for key in rows})
        self.seeds = range(1 + max(int(key.rsplit("|", 1)[1]) for key in rows if not key.endswith("estimated")))
        self.fused = self.by_set(FUSED, "none", lambda _, row: max(row["pool"], key=lambda each: total(each[4:6])))
        self.scanpy = self.of_scanpy("searched")

    def found(self, recipe: str, kind: str) -> list[tuple[str, int, Row]]:
        """Rows of one kind of text."""
        runs = (
            (name, seed, self.rows.get(key(name, recipe, kind, seed))) for name in self.names for seed in self.seeds
        )
        return [(name, seed, row) for name, seed, row in runs if row and "skipped" not in row]

    def by_set(self, recipe: str, kind: str, pick: Way) -> By:
        """Figures of each set, means over seeds."""
        found: dict[str, list[list[float]]] = {}
        for name, seed, row in self.found(recipe, kind):
            base = self.rows[key(name, FUSED, "none", seed)]
            found.setdefault(name, []).append(with_mean(pick(base, row)))
        return {name: np.mean(each, axis=0).tolist() for name, each in found.items()}

    def of_scanpy(self, resolution: str) -> By:
        """Figures of scanpy, of which two are kept."""

        def pick(_: Row, row: Row) -> list[float]:
            found = row["scanpy"][resolution]
            return [float("nan")] * 3 + [found["macro_f1"], found["mean"]]

        return self.by_set(SCANPY, "none", pick)

    def own(self, recipe: str, kind: str) -> By:
        """Figures of the own head; a recipe that reads text stands without it where there is no store."""
        if recipe in HEADLESS:
            return {}
        kinds = (kind,) if kind == "none" else ("none", kind)
        return self.first_of(recipe, kinds, lambda _, row: row["own"])

    def first_of(self, recipe: str, kinds: Sequence[str], pick: Way) -> By:
        """Figures of the last kind of text that a set has."""
        return {name: each for kind in kinds for name, each in self.by_set(recipe, kind, pick).items()}

    def table(self) -> dict[str, By]:
        """Figures of each recipe that has a head, and of the rule in its space."""
        found = {FUSED: self.fused, SCANPY: self.scanpy}
        for recipe in (*BASELINES, *SYSTEMS, "genept-w", *RIVALS):
            kind = "real" if recipe in WITH_TEXT else "none"
            found[recipe] = self.own(recipe, kind)
            if recipe not in BASELINES:
                found[f"{recipe}{RULE}"] = self.first_of(recipe, ("none", kind), alone)
        return {name: by for name, by in found.items() if by}

    def recipes(self) -> list[str]:
        """Lay out the table of recipes."""
        columns = ("recipe", "sets", "ACC", "NMI", "ARI", "mean", "quartiles over sets", "macro-F1")
        columns += (*(f"minus {other}, p" for other in (FUSED, SCANPY, KMEANS)), "s")
        others = (self.fused, self.scanpy, self.own(KMEANS, "none"))
        body = []
        for name, by in self.table().items():
            values = np.array(list(by.values()))
            low, high = np.quantile(values[:, -1], (0.25, 0.75))
            acc, nmi, ari, f1, middle = map(float, values.mean(axis=0))
            against = (difference(by, other) for other in others)
            spread = f"{low:.2f} to {high:.2f}"
            body.append((name, len(by), acc, nmi, ari, middle, spread, f1, *against, self.seconds(name)))
        return markdown(columns, body)

    def seconds(self, name: str) -> str:
        """Mean processor time of a recipe with its own head."""
        values = [row["seconds"] for _, _, row in self.found(name, "real" if name in WITH_TEXT else "none")]
        return f"{np.mean(values):.1f}" if values else ""

    def text(self) -> list[str]:
        """Lay out real, shuffled, random and no text, over the sets of a species with a store."""
        body = []
        for recipe in WITH_TEXT:
            ways: dict[str, Way] = {} if recipe in HEADLESS else {"its own": lambda _, row: row["own"]}
            ways |= {f"the rule, {shown}": way for shown, way in WAYS.items()}
            for shown, way in ways.items():
                found = {kind: self.by_set(recipe, kind, way) for kind in CONTROLS}
                names = [name for name in found["real"] if all(name in found[kind] for kind in CONTROLS[1:3])]
                if names:
                    real = {name: found["real"][name] for name in names}
                    values = (mean_of(by, names) if by else None for by in found.values())
                    against = (difference(real, found[kind]) for kind in CONTROLS[1:])
                    body.append((recipe, shown, len(names), *values, *against))
        columns = ("recipe", "head", "sets", *CONTROLS, *(f"real minus {kind}, p" for kind in CONTROLS[1:]))
        return markdown(columns, body)

    def spaces(self) -> list[str]:
        """Lay out what each space adds to the rule, and what the choice among all ways gives on other sets."""
        body, ways = [], {"the rule alone": self.fused}
        for recipe, kind in VARIANTS:
            if recipe in (SCANPY, FUSED, *BASELINES):
                continue
            found = {shown: self.by_set(recipe, kind, way) for shown, way in WAYS.items()}
            names = list(found["alone"])
            if names:
                name = f"{recipe}, {kind}" if recipe in WITH_TEXT else recipe
                cells = (f"{mean_of(by, names):.3f} ({difference(by, self.fused)})" for by in found.values())
                body.append((name, len(names), mean_of(self.fused, names), *cells))
                ways |= {f"{name}: {shown}": self.fused | by for shown, by in found.items()}
        columns = ("space", "sets", "the rule without it", *(f"{shown} (difference, p)" for shown in WAYS))
        return [*markdown(columns, body), "", self.cross_fitted(ways)]

    def cross_fitted(self, ways: Mapping[str, By]) -> str:
        """Choose the best way on one half of the sets, and score it on the other."""
        figures: dict[str, list[float]] = {name: [] for name in self.names}
        chosen = []
        for first, second in halves(self.names):
            for fit, test in ((first, second), (second, first)):
                best = max(ways, key=lambda way: mean_of(ways[way], fit))
                chosen.append(best)
                for name in test:
                    figures[name].append(ways[best][name][-1])
        fitted = {name: float(np.mean(values)) for name, values in figures.items()}
        gain, n_higher, p = compared(fitted, {name: self.fused[name][-1] for name in fitted})
        counts = ", ".join(f"{way} ({chosen.count(way)})" for way in dict.fromkeys(chosen))
        return (
            f"Chosen among {len(ways)} ways on the other half of the sets: {np.mean(list(fitted.values())):.3f} beside "
            f"{mean_of(self.fused, self.names):.3f} of the rule alone, {gain:+.3f}, higher on {n_higher} of "
            f"{len(fitted)}, p {p:.3f}. Chosen: {counts}."
        )

    def estimated(self) -> list[str]:
        """Lay out some recipes with k estimated, beside scanpy at two resolutions."""
        found = {shown: self.of_scanpy(resolution) for resolution, shown in RESOLUTIONS.items()}
        for recipe in ESTIMATED:
            rows = {name: self.rows.get(f"{name}|{recipe}|estimated") for name in self.names}
            found[recipe] = {name: with_mean(row["own"]) for name, row in rows.items() if row}
        others = [found[shown] for shown in RESOLUTIONS.values()]
        body = []
        for name, by in found.items():
            if by:
                f1, middle = map(float, np.array(list(by.values()))[:, 3:].mean(axis=0))
                body.append((name, len(by), middle, f1, *(difference(by, other) for other in others)))
        columns = ("recipe", "sets", "mean", "macro-F1", *(f"minus {shown}, p" for shown in RESOLUTIONS.values()))
        return markdown(columns, body)

    def by_set_lines(self) -> list[str]:
        """Lay out the mean of each recipe on each set."""
        table = {recipe: by for recipe, by in self.table().items() if not recipe.endswith(RULE)}
        body = [(name, *(by[name][-1] if name in by else None for by in table.values())) for name in self.names]
        return markdown(("data", *table), body)

    def lines(self) -> list[str]:
        """Lay out all tables."""
        parts = {"All recipes, k given": self.recipes(), "k estimated": self.estimated()}
        parts |= {"Does a trained space add to the rule?": self.spaces()}
        parts |= {"Text real, shuffled, random, none": self.text(), "By set": self.by_set_lines()}
        lines = ["# Recipes", "", f"{len(self.rows)} rows, {len(self.seeds)} seeds.", ""]
        return lines + [line for title, part in parts.items() for line in (f"## {title}", "", *part, "")]

    def bars(self) -> list[str]:
        """Compare `fused` with the best other row."""
        means = {name: mean_of(by, list(by)) for name, by in self.table().items() if name != FUSED}
        best = max(means, key=lambda name: means[name])
        ours = mean_of(self.fused, list(self.table()[best]))
        return [bar_line(f"fused minus the best other row, {best}", ours - means[best], 0.0)]


def with_mean(figures: Sequence[float]) -> list[float]:
    """Add the mean of ACC, NMI and ARI where it is not there."""
    return list(figures) if len(figures) == len(SCORES) + 1 else [*figures[:4], float(np.mean(figures[:3]))]


def mean_of(by: By, names: Iterable[str]) -> float:
    """Mean over sets of the mean of ACC, NMI and ARI."""
    return float(np.mean([by[name][-1] for name in names if name in by]))


def difference(by: By, other: By) -> str:
    """Difference of the means over sets that both have, and Wilcoxon's p."""
    both = [name for name in by if name in other]
    ours, theirs = ({name: each[name][-1] for name in both} for each in (by, other))
    if ours == theirs or len(both) == 1:
        return ""
    gain, _, p = compared(ours, theirs)
    return f"{gain:+.3f}, {p:.3f}"
