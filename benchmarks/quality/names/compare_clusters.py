"""Do clusters of one data set find their counterparts in another: by meaning, by markers, by both; beside controls.

    python -m benchmarks.quality.names.compare_clusters --output results

Clusters are the annotated types, so that the right counterpart is known; `compare_pairs.toml` says which types of two
sets are one, and which pairs were looked at while the comparison was worked out. Writes
`compare_clusters.json` and `compare_clusters.md`.
"""

import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import genekb
from benchmarks.lib.protocol import SEEDS, build_stores, command_line, data_folder, finish, sections, table
from cellmodel.annotate.match_clusters import UNMATCHED, ClusterMatch, CompareConfig, match_clusters
from cellmodel.annotate.shared_genes import ComparedSide, GenesBy, bring_together
from cellmodel.core.config import RunConfig
from cellmodel.core.random import generator
from cellmodel.explain.groups import ClusteredCells, clustered
from cellmodel.io.cells import cells_from_anndata
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.tl._demo import find_demo_cells

Sides = tuple[ComparedSide, ComparedSide]
Rows = list[dict[str, Any]]
WAYS = ("meaning", "markers", "overlap")  # the last: shared markers by their p value alone, for comparison
ROUGH = CompareConfig(n_permutations=20)  # controls are looked at for their best match, which needs no p value


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two labeled data sets, and which of their types are one."""

    name: str
    was_seen: bool
    sides: Sides
    same: Mapping[str, str]


def load_pairs(stores: Mapping[str, genekb.Store]) -> list[Pair]:
    """Read the pairs of `compare_pairs.toml`."""
    listed = tomllib.loads(Path(__file__).with_name("compare_pairs.toml").read_text())
    return [load_pair(name, entry, stores) for name, entry in listed.items()]


def load_pair(name: str, entry: Mapping[str, Any], stores: Mapping[str, genekb.Store]) -> Pair:
    cells = [load_cells(entry[side], stores) for side in ("a", "b")]
    own = tuple(stores[entry[side]["taxon"]] for side in ("a", "b"))
    genes_by: GenesBy = "ids" if entry["a"]["taxon"] == entry["b"]["taxon"] else "orthologs"
    sides = bring_together(cells[0], cells[1], stores=own, genes_by=genes_by)
    return Pair(name=name, was_seen=entry["was_seen"], sides=sides, same=entry["same"])


def load_cells(entry: Mapping[str, Any], stores: Mapping[str, genekb.Store]) -> ClusteredCells:
    path = find_demo_cells() if entry["file"] == "demo" else data_folder() / "scrna" / entry["file"]
    adata = read_anndata(path)
    if "where" in entry:
        adata = adata[(adata.obs[entry["where"]["column"]] == entry["where"]["value"]).to_numpy()].copy()
    if entry.get("capitalize", False):  # a file that writes mouse genes in human symbols
        adata.var_names = [name.capitalize() for name in adata.var_names]
    cells = cells_from_anndata(adata, source=entry["file"])
    return clustered(cells, stores[entry["taxon"]], RunConfig(), cluster_key=entry.get("key", "cell_type"))


def permuted(sides: Sides, seed: int) -> Sides:
    """Deal texts and markers of the second side out to other genes."""
    order = generator(seed, "permuted genes").permutation(len(sides[1].gene_ids))
    return sides[0], replace(sides[1], vectors=sides[1].vectors[order], gene_ids=sides[1].gene_ids[order])


def random_texts(sides: Sides, seed: int) -> Sides:
    """Give each gene a direction without meaning, the same on both sides: what matching by gene alone would give."""
    rng = generator(seed, "random texts")
    ids = np.union1d(sides[0].gene_ids, sides[1].gene_ids)
    drawn = rng.standard_normal((len(ids), sides[0].vectors.shape[1])).astype(np.float32)
    a, b = (replace(side, vectors=drawn[np.searchsorted(ids, side.gene_ids)]) for side in sides)
    return a, b


def no_shared_gene(sides: Sides, seed: int) -> Sides:
    """Leave each gene to one of the sides: markers cannot meet, texts can."""
    ids = np.union1d(sides[0].gene_ids, sides[1].gene_ids)
    of_a = generator(seed, "genes of a").permutation(ids)[: len(ids) // 2]
    kept = [
        np.flatnonzero(np.isin(side.gene_ids, of_a) == is_a) for side, is_a in zip(sides, (True, False), strict=True)
    ]
    a, b = (side.take(columns) for side, columns in zip(sides, kept, strict=True))
    return a, b


def best_by(matches: Sequence[ClusterMatch], pairs: Sequence[Any], way: str) -> dict[tuple[str, str], str]:
    """Give every cluster its best counterpart, weak or not."""
    keys = {
        "meaning": lambda p: p.meaning,
        "markers": lambda p: p.markers,
        "overlap": lambda p: (-p.p_markers, p.n_shared),
    }
    found = {}
    for match in matches:
        here, there = ("a", "b") if match.side == "a" else ("b", "a")
        of_cluster = [pair for pair in pairs if getattr(pair, here) == match.cluster]
        found[match.side, match.cluster] = getattr(max(of_cluster, key=keys[way]), there)
    return found


def right(found: Mapping[tuple[str, str], str], same: Mapping[str, str]) -> list[bool]:
    """Whether each shared type, looked at from either side, found its counterpart."""
    return [found["a", a] == b for a, b in same.items()] + [found["b", b] == a for a, b in same.items()]


def measure(pair: Pair) -> dict[str, Any]:
    """Score one pair of data sets in every way, and the controls."""
    matches, pairs = match_clusters(*pair.sides, config=CompareConfig(), seed=0)
    row: dict[str, Any] = {
        "pair": pair.name,
        "seen": "yes" if pair.was_seen else "no",
        "genes": len(pair.sides[0].gene_ids),
        "clusters": " / ".join(str(len(side.clusters)) for side in pair.sides),
        "shared types": len(pair.same),
    }
    for way in WAYS:
        row[way] = float(np.mean(right(best_by(matches, pairs, way), pair.same)))
    controls: dict[str, tuple[str, Callable[[Sides, int], Sides]]] = {
        "meaning, permuted": ("meaning", permuted),
        "markers, permuted": ("markers", permuted),
        "meaning, random directions": ("meaning", random_texts),
        "meaning, no shared gene": ("meaning", no_shared_gene),
        "meaning, no shared gene, permuted": (
            "meaning",
            lambda sides, seed: permuted(no_shared_gene(sides, seed), seed),
        ),
    }
    for name, (way, change) in controls.items():
        row[name] = float(np.mean([right(best_by(*controlled(pair, change, seed), way), pair.same) for seed in SEEDS]))
    return row | called(matches, pair.same)


def controlled(pair: Pair, change: Callable[[Sides, int], Sides], seed: int) -> Any:
    return match_clusters(*change(pair.sides, seed), config=ROUGH, seed=seed)


def called(matches: Sequence[ClusterMatch], same: Mapping[str, str]) -> dict[str, Any]:
    """Count how often a match is called for types with and without a counterpart, and is right."""
    truth = {("a", a): b for a, b in same.items()} | {("b", b): a for a, b in same.items()}
    attributes = {"meaning": "by_meaning", "markers": "by_markers", "both": "match"}
    row: dict[str, Any] = {}
    for way, attribute in attributes.items():
        said = {(m.side, m.cluster): getattr(m, attribute) for m in matches}
        given = {key: name for key, name in said.items() if name != UNMATCHED}
        row[f"called and right, {way}"] = float(np.mean([said[key] == name for key, name in truth.items()]))
        others = [key for key in said if key not in truth]
        row[f"no counterpart, unmatched, {way}"] = share(key not in given for key in others)
    reciprocal = [m for m in matches if m.is_reciprocal]
    known = [m for m in reciprocal if (m.side, m.cluster) in truth]
    row["reciprocal and right, both"] = share(truth[m.side, m.cluster] == m.match for m in known)
    row["no counterpart, not reciprocal"] = share(
        not m.is_reciprocal for m in matches if (m.side, m.cluster) not in truth
    )
    return row


def share(held: Iterable[bool]) -> float | None:
    """Share of what holds; None of nothing."""
    values = list(held)
    return float(np.mean(values)) if values else None


def mean_row(rows: Rows) -> dict[str, Any]:
    """Mean over the pairs that have a figure."""
    given = {key: [row[key] for row in rows if row[key] is not None] for key in rows[0]}
    numbers = {key: float(np.mean(each)) for key, each in given.items() if isinstance(each[0], float)}
    return {"pair": "mean", "seen": "", "genes": "", "clusters": "", "shared types": ""} | numbers


def report(rows: Rows) -> list[str]:
    """Lay out all tables; a figure of nothing is empty."""
    every = [*rows, mean_row(rows)]
    head = ("pair", "seen", "genes", "clusters", "shared types")
    controls = [key for key in rows[0] if any(word in key for word in ("permuted", "random", "no shared gene"))]
    calls = [key for key in rows[0] if any(word in key for word in ("called", "counterpart", "reciprocal"))]
    parts = {
        "Share of shared types, from either side, whose best counterpart is right": (*head, *WAYS),
        "The same with controls (5 seeds)": ("pair", *controls),
        "What is called": ("pair", *calls),
    }
    return sections({title: table(every, columns, digits=2) for title, columns in parts.items()})


def main() -> int:
    """Run everything."""
    options = command_line(__doc__, with_home=False).parse_args()
    human, mouse = map(genekb.open, build_stores(options.output / "home"))
    rows = list(map(measure, load_pairs({"human": human, "mouse": mouse})))
    return finish(options.output, "compare_clusters", rows, lines=report(rows))


if __name__ == "__main__":
    sys.exit(main())
