"""Names from lists of marker genes alone, against labels; lists.{json,md}.

    python -m benchmarks.quality.names.lists --output results [--home HOME] [--encoder wcp]

Each label of each set is a cluster; its list is the first 10, 25 or 50 of its markers as the product ranks them, t
times specificity (adjusted p <= .05). Candidates are all types of the table but cell lines and tumors;
`type_names.toml` says which names are right, and unassigned counts as wrong. The rule was chosen on the sets of half A.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

import genekb
from benchmarks.lib.protocol import finish, load_datasets, markdown
from benchmarks.quality.names.sets import TruthOfSet, command_line_of_names, half, more_sets, named_sets, open_stores
from cellmodel.annotate.cell_types import UNASSIGNED, CellType, combine_evidence, read_cell_types, usual_types
from cellmodel.annotate.levels import Verdict, broad_group, read_cell_groups
from cellmodel.annotate.marker_lists import (
    ListChoice,
    ListEvidence,
    list_evidence,
    name_by_evidence,
    resolve_lists,
    universe_ids,
)
from cellmodel.core.config import RunConfig
from cellmodel.core.random import generator
from cellmodel.explain.marker_tables import MarkerLists
from cellmodel.explain.markers import rank_markers, upregulated
from cellmodel.pp.normalize import log_expression

SIZES = (10, 25, 50)
N_RANDOM = 200  # random lists of each species and size
Lists = dict[str, tuple[str, ...]]
Names = Mapping[str, Verdict]


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """The labels of one species: their lists, and what is right for each."""

    lists: Lists  # by "set|label"
    right: dict[str, list[str]]


def lists_of(truth: TruthOfSet) -> Lists:
    """Rank the genes of each label that names a type."""
    names, groups = np.unique(truth.labels, return_inverse=True)
    tables = rank_markers(log_expression(truth.cells), groups, gene_names=truth.cells.names, n_top=max(SIZES))
    found = {name: upregulated(table.markers, max_p=0.05) for name, table in zip(names.tolist(), tables, strict=True)}
    return {
        f"{truth.data.name}|{name}": tuple(marker.name for marker in markers)
        for name, markers in found.items()
        if truth.right.get(name)
    }


def read_labels() -> dict[str, Labels]:
    """Read the sets, by species."""
    found = {taxon: Labels(lists={}, right={}) for taxon in ("human", "mouse")}
    for truth in named_sets([*load_datasets(), *more_sets()], with_clusters=False):
        of_taxon = found[truth.data.taxon]
        lists = lists_of(truth)
        of_taxon.lists.update(lists)
        of_taxon.right.update({key: truth.right[key.split("|", 1)[1]] for key in lists})
    return found


def only(about: ListEvidence, *, text: float, markers: float) -> ListEvidence:
    """Let one evidence source count."""
    evidence = about.evidence
    return replace(
        about, evidence=replace(evidence, both=sp.csr_matrix(text * evidence.text + markers * evidence.markers))
    )


def shuffled(about: ListEvidence, *, alone: bool) -> ListEvidence:
    """Give each gene the text of another."""
    evidence = about.evidence
    order = generator(0, "shuffled texts").permutation(len(about.gene_ids))
    text = evidence.text.tocsc()[:, order].tocsr()
    has_markers = np.zeros(len(evidence.types), dtype=bool) if alone else evidence.n_markers > 0
    markers = sp.csr_matrix(text.shape) if alone else evidence.markers
    return replace(about, evidence=replace(evidence, both=combine_evidence(text, markers, has_markers=has_markers)))


def without(about: ListEvidence, left_out: set[str]) -> ListEvidence:
    """Leave candidates and groups out."""
    evidence = about.evidence
    kept = np.flatnonzero([one.name not in left_out for one in evidence.types])
    parts = {name: getattr(evidence, name)[kept] for name in ("text", "markers", "both", "n_markers")}
    types = tuple(evidence.types[row] for row in kept.tolist())
    return replace(
        about,
        evidence=replace(evidence, types=types, **parts),
        n_types=int((kept < about.n_types).sum()),
    )


def score_taxon(labels: Labels, kb: genekb.Store, encoder: str) -> dict[int, dict[str, dict[str, bool]]]:
    """Whether each label is named right, by size and column."""
    config = RunConfig(encoder=encoder)
    every, _ = resolve_lists(MarkerLists(genes=labels.lists), kb, n_top=max(SIZES))
    about = list_evidence(usual_types(), kb, gene_ids=universe_ids(every, kb, config, None), encoder=encoder)
    evidence = {
        "both": about,
        "markers": only(about, text=0, markers=1),
        "text": only(about, text=1, markers=0),
        "both, texts shuffled": shuffled(about, alone=False),
        "text shuffled": shuffled(about, alone=True),
    }
    scored: dict[int, dict[str, dict[str, bool]]] = {}
    for size in SIZES:
        lists = {key: dict(list(genes.items())[:size]) for key, genes in every.items()}
        auto = {what: name_all(lists, each, level="auto") for what, each in evidence.items()}
        scored[size] = {
            **{what: right_names(names, labels) for what, names in auto.items()},
            "both, fine": right_names(name_all(lists, about, level="fine"), labels),
            "both, broad": right_groups(name_all(lists, about, level="broad"), labels),
            **of_auto(auto["both"]),
            "named, the right types left out": named_without(lists, about, labels),
            "random lists named": random_lists(about, size),
        }
    return scored


def name_all(lists: Mapping[str, Mapping[str, int]], about: ListEvidence, **choice: Any) -> Names:
    """Name lists."""
    return dict(zip(lists, name_by_evidence(lists, about, choice=ListChoice(**choice), seed=0), strict=True))


def right_names(names: Names, labels: Labels) -> dict[str, bool]:
    """Whether each name is right."""
    return {key: one.name in labels.right[key] for key, one in names.items()}


def right_groups(names: Names, labels: Labels) -> dict[str, bool]:
    """Whether each name is the everyday group of a right one."""
    table: dict[str, CellType] = {one.name: one for one in (*read_cell_types(), *read_cell_groups())}
    groups = {key: {broad_group(table[name]).name for name in right} for key, right in labels.right.items()}
    return {key: one.name in groups[key] for key, one in names.items()}


def of_auto(names: Names) -> dict[str, dict[str, bool]]:
    """Find what was unassigned, and what was named by a group."""
    return {
        "unassigned": {key: one.name == UNASSIGNED for key, one in names.items()},
        "named by a group": {key: one.name != UNASSIGNED and one.level != "fine" for key, one in names.items()},
    }


def named_without(lists: Mapping[str, Mapping[str, int]], about: ListEvidence, labels: Labels) -> dict[str, bool]:
    """Whether a list is named where no right name is a candidate."""
    found = {}
    for right in {tuple(labels.right[key]) for key in lists}:
        own = {key: genes for key, genes in lists.items() if tuple(labels.right[key]) == right}
        names = name_all(own, without(about, set(right)), level="auto", n_permutations=99)
        found |= {key: one.name != UNASSIGNED for key, one in names.items()}
    return found


def random_lists(about: ListEvidence, size: int) -> dict[str, bool]:
    """Whether random lists of genes with a text are named."""
    rng = generator(1, f"lists of {size}")
    draws = {
        f"random|{number}": {str(gene): gene for gene in rng.choice(about.gene_ids, size, replace=False).tolist()}
        for number in range(N_RANDOM)
    }
    return {key: one.name != UNASSIGNED for key, one in name_all(draws, about, level="auto").items()}


def mean_of_sets(scored: Mapping[str, bool], sets: Sequence[str] | None = None) -> float:
    """Mean over sets of the share of their labels."""
    by_set: dict[str, list[bool]] = {}
    for key, value in scored.items():
        by_set.setdefault(key.split("|", 1)[0], []).append(value)
    return float(np.mean([np.mean(each) for name, each in by_set.items() if sets is None or name in sets]))


def report(scored: Mapping[int, Mapping[str, Mapping[str, bool]]], sets: Sequence[str], encoder: str) -> list[str]:
    """Write the shares as tables."""
    halves = {which: [name for name in sets if half(name) == which] for which in "AB"}
    lines = [f"# Names from lists alone, {encoder}", ""]
    for which, own in halves.items():
        lines += [f"Half {which}: {', '.join(own)}", ""]
    columns = {f"{size} genes, {which}": (size, halves[which]) for size in SIZES for which in "AB"}
    shares = (
        [
            what,
            *(
                mean_of_sets(scored[at][what], None if what.startswith("random") else own)
                for at, own in columns.values()
            ),
        ]
        for what in scored[SIZES[0]]
    )
    of_sets = ([name, *(mean_of_sets(scored[size]["both"], [name]) for size in SIZES)] for name in sets)
    lines += [*markdown(["share of labels", *columns], shares), ""]
    return lines + markdown(["data, named right", *map(str, SIZES)], of_sets, digits=2)


def main() -> int:
    """Score everything and write it."""
    parser = command_line_of_names(__doc__)
    parser.add_argument("--encoder", default="wcp")
    options = parser.parse_args()
    stores = open_stores(options, [options.encoder])
    scored: dict[int, dict[str, dict[str, bool]]] = {size: {} for size in SIZES}
    sets: dict[str, None] = {}
    for taxon, labels in read_labels().items():
        for size, columns in score_taxon(labels, stores[taxon], options.encoder).items():
            for what, each in columns.items():
                scored[size].setdefault(what, {}).update({f"{key} {taxon}": value for key, value in each.items()})
        sets |= dict.fromkeys(key.split("|", 1)[0] for key in labels.lists)
    return finish(options.output, "lists", scored, lines=report(scored, sorted(sets), options.encoder))


if __name__ == "__main__":
    sys.exit(main())
