"""Free labels of cell types mapped to the Cell Ontology, against a table of right terms; map_labels.md.

    python -m benchmarks.quality.names.map_labels panglao_cl.tsv --label panglao_cell_type --id ontology_id

Top-1 by halves (by a hash of the label), identifiers that are an ancestor or a descendant of the right one, and what is
wrong though high; beside them labels whose letters are shuffled, and right terms that are permuted. A label whose term
is NA is right where none is given.
"""

import hashlib
import random
import sys
from pathlib import Path

from benchmarks.lib.protocol import command_line, finish, markdown
from cellmodel.annotate.ontology import MappedLabel, map_label, read_ontology
from cellmodel.core.errors import InputUnusable
from genekb.files.tables import read_table

Pairs = list[tuple[str, str]]  # label and identifier of the right term, empty where there is none


def half(label: str) -> str:
    """Half of a label."""
    return "AB"[hashlib.sha256(label.encode()).digest()[0] % 2]


def is_related(one: str, other: str) -> bool:
    """Whether one term is an ancestor of the other."""
    terms = read_ontology()
    return any(above in terms[below].ancestors for above, below in ((one, other), (other, one)) if below in terms)


def scores(pairs: Pairs) -> dict[str, object]:
    """Score the terms of some labels."""
    found: list[tuple[MappedLabel, str]] = [(map_label(label), term) for label, term in pairs]
    wrong = [(one, term) for one, term in found if one.id != term]
    high = [one for one, _ in found if one.confidence == "high"]
    return {
        "n": len(found),
        "top-1": f"{1 - len(wrong) / len(found):.3f}",
        "or ancestor, descendant": f"{1 - sum(not is_related(one.id, term) for one, term in wrong) / len(found):.3f}",
        "high": f"{len(high) / len(found):.3f}",
        "wrong and high": f"{sum(one.confidence == 'high' for one, _ in wrong) / len(found):.3f}",
    }


def main() -> int:
    """Write the table, and the labels whose term is wrong."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("table", type=Path)
    parser.add_argument("--label", required=True)
    parser.add_argument("--id", required=True)
    options = parser.parse_args()
    rows = read_table(options.table, "a table of labels", error=InputUnusable).rows
    pairs = [(row[options.label], row[options.id].replace("NA", "")) for row in rows]
    rng = random.Random(0)
    letters = [("".join(rng.sample(label, len(label))), term) for label, term in pairs]
    permuted = list(
        zip((label for label, _ in pairs), rng.sample([term for _, term in pairs], len(pairs)), strict=True)
    )
    sets = {name: [pair for pair in pairs if half(pair[0]) == name] for name in "AB"}
    sets |= {"all": pairs, "letters shuffled": letters, "terms permuted": permuted}
    rows_of = {name: scores(each) for name, each in sets.items()}
    scored = markdown(["labels", *rows_of["all"]], [(name, *row.values()) for name, row in rows_of.items()])
    wrong = [(map_label(label), term) for label, term in pairs if map_label(label).id != term]
    lines = [f"{one.label}: {one.id or 'none'} {one.name} ({one.confidence}), not {term}  " for one, term in wrong]
    return finish(options.output, "map_labels", rows_of, lines=[*scored, "", *lines])


if __name__ == "__main__":
    sys.exit(main())
