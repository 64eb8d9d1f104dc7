"""Check the tables of cell types against a release of the Cell Ontology: identifiers, labels, and who belongs to whom.

    python -m benchmarks.lib.check_ontology cl.obo

`cl.obo` is the file of a release (https://github.com/obophenotype/cell-ontology/releases), of which is_a is followed.
The .json of `cellxgene-ontology-guide` is read too. Prints what disagrees, and exits with 1 then.
"""

import argparse
import json
import sys
from pathlib import Path

from cellmodel.annotate.cell_types import read_cell_types
from cellmodel.annotate.levels import read_cell_groups

Ontology = dict[str, tuple[str, set[str]]]  # identifier: label, ancestors


def read_ontology(path: Path) -> Ontology:
    """Read labels and ancestors."""
    if path.suffix == ".json":
        return {
            term: (one["label"], set(one["ancestors"]) - {term}) for term, one in json.loads(path.read_text()).items()
        }
    labels: dict[str, str] = {}
    parents: dict[str, set[str]] = {}
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        lines = [line.split(" ! ")[0].strip() for line in block.splitlines()]
        if not lines or lines[0] != "[Term]" or "is_obsolete: true" in lines:
            continue
        (term,) = (line[4:] for line in lines if line.startswith("id: "))
        labels[term] = next(line[6:] for line in lines if line.startswith("name: "))
        parents[term] = {line[6:].split(" ")[0] for line in lines if line.startswith("is_a: ")}
    return {term: (label, ancestors(term, parents)) for term, label in labels.items()}


def ancestors(term: str, parents: dict[str, set[str]]) -> set[str]:
    """All terms above one."""
    found: set[str] = set()
    new = set(parents.get(term, ()))
    while new:
        found |= new
        new = {above for each in new for above in parents.get(each, ())} - found
    return found


def disagreements(ontology: Ontology) -> list[str]:
    """One line for each identifier, label or parent that the ontology does not have so."""
    table = {one.name: one for one in (*read_cell_types(), *read_cell_groups())}
    lines = []
    for one in table.values():
        if not one.ontology_id:
            continue
        label, above = ontology.get(one.ontology_id, ("", set()))
        if label != one.ontology_label:
            lines.append(f"{one.name}: {one.ontology_id} is {label or 'no term'}, not {one.ontology_label}")
        term = table[one.parent].ontology_id if one.parent else ""
        if term and term != one.ontology_id and term not in above:
            lines.append(f"{one.name}: {one.parent} is not above it")
    return lines


def main() -> int:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ontology", type=Path)
    options = parser.parse_args()
    ontology = read_ontology(options.ontology)
    lines = disagreements(ontology)
    sys.stdout.write("\n".join(lines or ["every identifier, label and parent is in the ontology"]) + "\n")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
