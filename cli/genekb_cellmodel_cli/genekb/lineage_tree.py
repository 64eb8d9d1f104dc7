"""The lineage of a store as a tree of text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genekb_cellmodel_cli.app.output import print_json, print_lines

if TYPE_CHECKING:
    from genekb.builder.lineage import Derivation, Generation


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A line of the tree and the lines that hang on it."""

    text: str
    children: Sequence["Node"] = field(default_factory=tuple)


def print_lineage(folder: Path, *, home: Path | None, json: bool) -> None:
    """Print the lineage of a store as a tree, or nested as one JSON object."""
    from genekb.builder.lineage import lineage_tree, trace_lineage

    generations = trace_lineage(folder, home=home)
    print_json(lineage_tree(generations)) if json else print_lines(draw_lineage(generations))


def draw_lineage(generations: Sequence["Generation"]) -> Iterator[str]:
    """Draw a store with the stores that it was made from inside it, oldest innermost."""
    child: Node | None = None
    for generation in reversed(generations):
        child = _store(generation, parent=child)
    if child is not None:
        yield from _lines(child, first="", rest="")


def _lines(node: Node, *, first: str, rest: str) -> Iterator[str]:
    yield first + node.text
    for number, child in enumerate(node.children, start=1):
        is_last = number == len(node.children)
        yield from _lines(
            child, first=f"{rest}{'└─ ' if is_last else '├─ '}", rest=f"{rest}{'   ' if is_last else '│  '}"
        )


def _store(generation: "Generation", *, parent: Node | None) -> Node:
    content = generation.to_dict()
    if not content["here"]:
        return Node(text=f"{content['digest']} ({content['problem']})")
    derivation = generation.derivation
    added = set(derivation.encoders_added) if derivation else set()
    template = content["template"]
    children = [
        Node(text=f"made: {content['made_at'] or 'not stated'} by {content['made_by'] or 'not stated'}"),
        *([Node(text=f"pulled from: {content['pulled_from']}")] if content["pulled_from"] else []),
        Node(text=f"template: {template['number']} ({template['name']}); texts given to: {content['selection']}"),
        Node(text="sources", children=[_source(row) for row in content["sources"]]),
        Node(text="encoders", children=[_encoder(entry, added) for entry in content["encoders"]]),
    ]
    if parent is not None:
        children.append(Node(text="parent", children=[*_changes(derivation), parent]))
    return Node(text=f"{content['store']} {content['digest']}", children=children)


def _source(row: dict[str, Any]) -> Node:
    read, kept = row["n_rows_read"], row["n_rows_kept"]
    return Node(text=f"{row['name']}: {read:,} rows read, {kept:,} kept, sha256 {row['sha256'][:16]}")


def _encoder(entry: dict[str, Any], added: set[str]) -> Node:
    parts = [f"{entry['model']} {entry['revision']}".strip(), f"{entry['n_vectors']:,} vectors"]
    if entry["made_from"]:
        parts = [entry["made_from"], parts[1]]
    if entry["encoder_id"] in added:
        parts.append("not in the parent")
    return Node(text=f"{entry['encoder_id']}: {', '.join(parts)}")


def _changes(derivation: "Derivation | None") -> list[Node]:
    if derivation is None:
        return []
    texts = f"{derivation.n_texts_kept:,} kept, {derivation.n_texts_new:,} new, {derivation.n_texts_gone:,} gone"
    changes = {
        "made from it by": f"genekb {derivation.how}",
        "texts": texts,
        "sources replaced": ", ".join(derivation.sources_replaced),
        "sources added": ", ".join(derivation.sources_added),
        "sources left out": ", ".join(derivation.sources_left_out),
        "encoders added": ", ".join(derivation.encoders_added),
        "encoders left out": ", ".join(derivation.encoders_left_out),
    }
    return [Node(text=f"{name}: {value}") for name, value in changes.items() if value]
