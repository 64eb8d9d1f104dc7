"""Commands of `genekb` on whole stores: models, list, path, info, verify, diff, gc."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genekb.core.messages import counted
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import Columns, existing_lock, note, print_json, print_lines, print_table
from genekb_cellmodel_cli.genekb import share

if TYPE_CHECKING:
    from genekb.builder.diff import StoreDiff
    from genekb.builder.lineage import Derivation, Generation


def models(json: options.Json = False) -> None:
    """List the encoders that --model takes, and which of them are on this machine.

    Example: genekb models
    """
    from genekb.encoders import list_models

    entries = list_models()
    if json:
        print_json({"models": [asdict(entry) for entry in entries]})
        return
    print_table(
        {
            "name": "name",
            "dim": lambda entry: entry.dim or "",
            "max tokens": lambda entry: entry.max_tokens or "any",
            "here": "where",
            "licence": "licence",
            "model": "model_id",
        },
        entries,
    )


def list_stores(
    remote: Annotated[bool, typer.Option("--remote", help="List what a catalogue offers to pull instead.")] = False,
    catalog: share.Catalog = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """List the stores of the artifact home, or of a catalogue.

    Example: genekb list --remote --catalog https://example.org/genes/catalog.toml
    """
    if remote:
        listed = share.list_remote(catalog, home)
        if json:
            print_json({"stores": listed})
        else:
            _print_stores(listed, none="the catalogue lists no store")
        return
    from genekb.store.home import find_home, list_store_folders
    from genekb.store.manifest import read_manifest

    rows = []
    for folder in list_store_folders(find_home(home)):
        manifest = read_manifest(folder)
        rows.append(
            {
                "store": manifest.full_name,
                "digest": manifest.digest[:16],
                "n_genes": manifest.n_genes,
                "n_texts": manifest.n_texts,
                "encoders": list(manifest.encoders),
                "n_bytes": sum(file.n_bytes for file in manifest.files),
                "path": str(folder.absolute()),
            }
        )
    if json:
        print_json({"home": str(find_home(home)), "stores": rows})
    else:
        _print_stores(rows, none=f"no store in {find_home(home)}; make one with `genekb build`")


def _print_stores(rows: Sequence[Mapping[str, Any]], *, none: str) -> None:
    """Print stores as a table, without their paths, which `genekb path` prints."""
    shown = [{key: value for key, value in row.items() if key != "path"} for row in rows]
    if not shown:
        note(none)
        return
    cells = ([", ".join(value) if isinstance(value, list) else value for value in row.values()] for row in shown)
    print_table(tuple(shown[0]), [tuple(row) for row in cells])


def path(store: options.NamedStore, json: options.Json = False) -> None:
    """Print the folder of a store, for scripts; exit code 4 where there is none.

    Example: genekb path human
    """
    folder = store.folder().absolute()
    print_json({"path": str(folder)}) if json else print_lines([str(folder)])


def info(
    store: options.NamedStore,
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Draw the stores, sources and encoders behind it.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show what a store holds and from what it was made.

    Example: genekb info human@2022-11 --lineage
    """
    import json as json_module

    if lineage:
        print_lineage(store.folder(), home=store.home, json=json)
        return
    from genekb.store.card import without_header

    kb = store.open()
    if json:
        print_json(json_module.loads(kb.manifest.to_json()) | {"path": str(kb.folder.absolute())})
        return
    print_lines([without_header(kb.card), f"path: {kb.folder}"])
    print_lines([f"digest: {kb.manifest.digest}", f"made: {kb.manifest.created_at} by {kb.manifest.created_by}"])


def verify(store: options.NamedStore, public_key: share.PublicKey = None, json: options.Json = False) -> None:
    """Check every byte, key and vector of a store against its manifest, and the manifest's signature.

    Example: genekb verify human@2022-11 --public-key lab.pub
    """
    from genekb.core.errors import StoreCorrupt
    from genekb.share.signing import verify_signature
    from genekb.store.verify import verify_store

    folder = store.folder()
    signed = verify_signature(folder, public_key) if public_key else ""
    result = verify_store(folder)
    if json:
        print_json(asdict(result) | {"signed": signed})
    else:
        print_lines(
            [f"{result.store_id}: {result.n_files} files, {result.n_bytes:,} bytes, {result.n_vectors:,} vectors"]
        )
        print_lines(f"fault: {fault}" for fault in result.faults)
        print_lines(f"not pulled: {encoder_id}" for encoder_id in result.not_pulled)
        print_lines([f"signed: {signed}"] if signed else [])
    if result.faults:
        raise StoreCorrupt(f"{result.store_id} has {counted(len(result.faults), 'fault')}; build or pull it again")
    note("whole: every byte is what the manifest says")


def diff(
    old: options.StoreName,
    new: options.StoreName,
    limit: Annotated[int, typer.Option(help="Examples of each kind to show.", min=0)] = 10,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Compare two stores: genes added, retired, renamed; texts word by word; how far the vectors moved.

    Example: genekb diff human@2020-01 human@2022-11
    """
    from genekb import open as open_store
    from genekb.builder.diff import diff_stores

    result = diff_stores(open_store(old, home=home), open_store(new, home=home), n_examples=limit)
    if json:
        print_json({"counts": result.changes.counts(), **asdict(result)})
        return
    _print_diff(result, limit)


_MOVED: Columns = {
    "encoder": "encoder",
    "same recipe": "same_recipe",
    "genes": "n_genes",
    "moved": "n_moved",
    "median": "median",
    "q90": "q90",
    "q99": "q99",
    "farthest": lambda move: ", ".join(f"{symbol} {distance:.2f}" for _, symbol, distance in move.farthest[:3]),
}


def _print_diff(result: "StoreDiff", limit: int) -> None:
    changes = result.changes
    print_lines([f"{result.old} -> {result.new}", ""])
    print_table(("change", "number"), list(changes.counts().items()))
    if changes.renamed:
        shown = ", ".join(f"{gene.old} -> {gene.new}" for gene in changes.renamed[:limit])
        print_lines(["", f"renamed: {shown}"])
    for word in result.words:
        print_lines(["", f"{word.symbol} ({word.gene_id}): {word.words}"])
    if result.moved:
        print_lines([""])
        print_table(_MOVED, result.moved)
    for what, encoders in (("old", result.only_in_old), ("new", result.only_in_new)):
        if encoders:
            print_lines([f"only in the {what} store: {', '.join(encoders)}"])
    if result.not_pulled:
        print_lines([f"left out, not pulled: {', '.join(result.not_pulled)}"])


def gc(
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also remove stores that their name no longer maps to.")
    ] = False,
    keep_newest: Annotated[
        int | None,
        typer.Option(help="Remove superseded stores but the newest N of each name, the current one counted.", min=1),
    ] = None,
    lock: Annotated[
        list[Path] | None,
        typer.Option(
            help="Lock file whose stores stay, besides the project's and those noted in the home; repeatable."
        ),
    ] = None,
    dry_run: options.DryRun = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Clear away unfinished builds, caches of stores that are gone, and on request superseded stores.

    Stores that a lock file pins stay. Bytes are those that are freed: generations of a store share their files.

    Example: genekb gc --keep-newest 2 --dry-run
    """
    from genekb.query.gc import collect_garbage
    from genekb.store.home import find_home
    from genekb.store.lockfile import find_lock_file, noted_lock_files

    folder, project = find_home(home), find_lock_file()
    given = [existing_lock(file, hint="give --lock a file that `genekb lock` wrote") for file in lock or ()]
    result = collect_garbage(
        folder,
        superseded=superseded or keep_newest is not None,
        dry_run=dry_run,
        keep_newest=keep_newest or 1,
        locks=[*given, *([project] if project else []), *noted_lock_files(folder)],
    )
    if json:
        print_json({"dry_run": dry_run, "n_bytes": result.n_bytes, **asdict(result)})
        return
    verb = "would remove" if dry_run else "removed"
    print_lines(f"{verb} {item.path} ({item.reason}, {item.n_bytes:,} bytes)" for item in result.removed)
    print_lines(f"left {item.path} ({item.reason})" for item in result.left)
    print_lines([f"{verb} {len(result.removed)} items, {result.n_bytes:,} bytes"])
    if result.n_superseded:
        print_lines(
            [
                f"superseded stores: {result.n_superseded}, {result.n_bytes_superseded:,} bytes; `genekb gc "
                "--superseded` removes them, `--keep-newest N` all but the newest N of each name"
            ]
        )


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
