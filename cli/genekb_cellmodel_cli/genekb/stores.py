"""Commands of `genekb` on whole stores: info, verify, diff, gc, push, pull, lock."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import genekb
from genekb.core.messages import counted
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import LockFile, arguments_of
from genekb_cellmodel_cli.app.output import (
    Columns,
    keep_interrupted,
    note,
    print_compared,
    print_pins,
    print_record,
    show,
    table,
)
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    from genekb.builder.diff import Derivation, Generation, StoreDiff
    from genekb.share.catalog import Listed
    from genekb.store.manifest import Manifest


def info(
    store: options.NamedStore,
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Draw the stores, sources and encoders behind it.")
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="Print its whole card.")] = False,
    path: Annotated[
        bool, typer.Option("--path", help="Print its folder alone, for scripts; it is not opened.")
    ] = False,
    models: Annotated[
        bool, typer.Option("--models", help="List the encoders that --model takes, and which are on this machine.")
    ] = False,
    remote: Annotated[bool, typer.Option("--remote", help="List what a catalog offers to pull.")] = False,
    catalog: Annotated[
        str | None,
        typer.Option(help="Catalog, a path or an address; else GENEKB_CATALOG, else catalog.toml of the home."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show what a store holds and from what it was made, exit code 4 where there is none; without one, list all.

    Example: genekb info human@2022-11 --lineage; genekb info --remote --catalog https://example.org/catalog.toml
    """
    from genekb.builder.diff import lineage_tree, trace_lineage

    if store.is_given and (models or remote):
        raise typer.BadParameter("--models and --remote list what there is; leave out the store")
    if models:
        _print_models(json=json)
    elif not store.is_given and not (lineage or card or path):
        _print_stores(store.home, catalog=catalog, remote=remote, json=json)
    elif path:
        folder = str(store.folder().absolute())
        show({"path": folder}, [folder], json=json)
    elif lineage:
        generations = trace_lineage(store.folder(), home=store.home)
        show(lineage_tree(generations), draw_lineage(generations), json=json)
    else:
        _print_store(store.open(), card=card, json=json)


def _print_models(*, json: bool) -> None:
    entries = genekb.models()
    columns: Columns = {
        "name": "name",
        "dim": lambda entry: entry.dim or "",
        "max tokens": lambda entry: entry.max_tokens or "any",
        "here": "where",
        "licence": "licence",
        "model": "model_id",
    }
    show({"models": [asdict(entry) for entry in entries]}, table(columns, entries), json=json)


def _print_stores(home: Path | None, *, catalog: str | None, remote: bool, json: bool) -> None:
    from genekb.store.home import find_home, list_store_folders
    from genekb.store.manifest import read_manifest

    if remote:
        from genekb.share.catalog import find_catalog, read_catalog

        listed = read_catalog(find_catalog(catalog, home))
        rows = [_row(one, one.n_bytes, licences="; ".join(one.licences), url=one.url) for one in listed]
        where, none = {}, "the catalog lists no store"
    else:
        rows = []
        for folder in list_store_folders(find_home(home)):
            manifest = read_manifest(folder)
            n_bytes = sum(file.n_bytes for file in manifest.files)
            rows.append(_row(manifest, n_bytes, path=str(folder.absolute())))
        where = {"home": str(find_home(home))}
        none = f"no store in {find_home(home)}; make one with `genekb build`"
    if not rows and not json:
        note(none)
    columns = {name: name for name in (rows[0] if rows else ()) if name != "path"}  # `genekb info --path` prints it
    lines = table(columns, [{**row, "encoders": ", ".join(row["encoders"])} for row in rows]) if rows else ()
    show({**where, "stores": rows}, lines, json=json)


def _print_store(kb: "genekb.Store", *, card: bool, json: bool) -> None:
    import json as json_module

    from genekb.store.card import without_header

    made = f"made: {kb.manifest.created_at} by {kb.manifest.created_by}"
    lines = [without_header(kb.card) if card else repr(kb), f"digest: {kb.manifest.digest}", made]
    show(json_module.loads(kb.manifest.to_json()) | {"path": str(kb.folder.absolute())}, lines, json=json)


def _row(store: "Manifest | Listed", n_bytes: int, **more: str) -> dict[str, Any]:
    return {
        "store": getattr(store, "full_name", store.name),
        "digest": store.digest[:16],
        "n_genes": store.n_genes,
        "n_texts": store.n_texts,
        "encoders": list(store.encoders),
        "n_bytes": n_bytes,
        **more,
    }


def verify(
    store: options.NamedStore,
    public_key: Annotated[
        str | None, typer.Option(help="minisign key, or its file, that must have signed the store.")
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            help="Then sign its manifest with this secret key, whose public one has the suffix .pub; the password is "
            "taken from GENEKB_SIGN_PASSWORD."
        ),
    ] = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="With --sign: make that pair of keys first.")] = False,
    json: options.Json = False,
) -> None:
    """Check every byte, key and vector of a store against its manifest, and the signature, or sign it.

    Example: genekb verify human --public-key lab.pub; genekb verify human --sign ~/.genekb.key --new-key
    """
    from genekb.core.errors import StoreCorrupt
    from genekb.share.signing import verify_signature
    from genekb.store.verify import verify_store

    if new_key and sign is None:
        raise typer.BadParameter("--new-key makes the key of --sign; give its file")
    folder = store.folder()
    signed = verify_signature(folder, public_key) if public_key else ""
    result = verify_store(folder)
    made: dict[str, str] = {}
    if sign is not None and not result.faults:
        made = {"public_key": str(genekb.keygen(sign))} if new_key else {}
        made["signature"] = str(genekb.sign(folder, sign))
    lines = [
        f"{result.store_id}: {result.n_files} files, {result.n_bytes:,} bytes, {result.n_vectors:,} vectors",
        *(f"fault: {fault}" for fault in result.faults),
        *(f"not pulled: {encoder_id}" for encoder_id in result.not_pulled),
        *([f"signed: {signed}"] if signed else []),
        *(f"{what.replace('_', ' ')}: {path}" for what, path in made.items()),
    ]
    show(asdict(result) | {"signed": signed, **made}, lines, json=json)
    if result.faults:
        raise StoreCorrupt(f"{result.store_id} has {counted(len(result.faults), 'fault')}; build or pull it again")
    note("whole: every byte is what the manifest says")


def diff(
    old: options.StoreName,
    new: options.StoreName,
    arguments: Arguments = arguments_of("genekb.diff", "old", "new", limit={"min": 0}),
    json: options.Json = False,
) -> None:
    """Compare two stores: genes added, retired, renamed; texts word by word; how far the vectors moved.

    Example: genekb diff human@2020-01 human@2022-11
    """
    result = genekb.diff(old, new, **arguments)
    content = {"counts": result.changes.counts(), **asdict(result)}
    show(content, _diff_lines(result, arguments["limit"]), json=json)


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


def _diff_lines(result: "StoreDiff", limit: int) -> Iterator[str]:
    changes = result.changes
    yield from (f"{result.old} -> {result.new}", "")
    yield from table(("change", "number"), changes.counts().items())
    if changes.renamed:
        shown = ", ".join(f"{gene.old} -> {gene.new}" for gene in changes.renamed[:limit])
        yield from ("", f"renamed: {shown}")
    for word in result.words:
        yield from ("", f"{word.symbol} ({word.gene_id}): {word.words}")
    if result.moved:
        yield from ("", *table(_MOVED, result.moved))
    for what, encoders in (("old", result.only_in_old), ("new", result.only_in_new)):
        if encoders:
            yield f"only in the {what} store: {', '.join(encoders)}"
    if result.not_pulled:
        yield f"left out, not pulled: {', '.join(result.not_pulled)}"


def gc(
    arguments: Arguments = arguments_of("genekb.gc", keep_newest={"min": 1}),
    json: options.Json = False,
) -> None:
    """Clear away unfinished builds, caches of stores that are gone, and on request superseded stores.

    Stores that a lock file pins stay. Bytes are those that are freed: generations of a store share their files.

    Example: genekb gc --keep-newest 2 --dry-run
    """
    result, dry_run = genekb.gc(**arguments), arguments["dry_run"]
    verb = "would remove" if dry_run else "removed"
    lines = [
        *(f"{verb} {item.path} ({item.reason}, {item.n_bytes:,} bytes)" for item in result.removed),
        *(f"left {item.path} ({item.reason})" for item in result.left),
        f"{verb} {len(result.removed)} items, {result.n_bytes:,} bytes",
    ]
    if result.n_superseded:
        lines += [
            f"superseded stores: {result.n_superseded}, {result.n_bytes_superseded:,} bytes; `genekb gc "
            "--superseded` removes them, `--keep-newest N` all but the newest N of each name"
        ]
    show({"dry_run": dry_run, "n_bytes": result.n_bytes, **asdict(result)}, lines, json=json)


_TRANSFER: dict[str, dict[str, Any]] = {"jobs": {"min": 1, "max": 64}, "timeout_s": {"min": 1.0}}


def push(
    store: options.NamedStore,
    url: Annotated[str, typer.Argument(help="Folder, file://, s3://bucket/path or hf://datasets/owner/name.")],
    arguments: Arguments = arguments_of("genekb.push", "store", "url", "home", **_TRANSFER),
    json: options.Json = False,
) -> None:
    """Copy a store to where others can pull it; an interrupted push goes on where it was.

    Example: genekb push human@2022-11 s3://bucket/genes/human
    """
    with keep_interrupted("what was sent is kept"):
        print_record(asdict(genekb.push(store.open(), url, **arguments)), json=json)


def pull(
    url: Annotated[
        str | None,
        typer.Argument(
            help="Address, with @DIGEST or @REVISION to pin it; or a catalog's name; all that genekb.lock pins if left "
            "out.",
            show_default=False,
        ),
    ] = None,
    arguments: Arguments = arguments_of("genekb.pull", "url", **_TRANSFER),
    file: LockFile = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare with the lock file; exit with 5 where something differs.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Bring a shared store, or those that genekb.lock pins, to this machine, every byte checked.

    An interrupted pull goes on where it was.

    Example: genekb pull hf://datasets/lab/human@main --encoder minilm; genekb pull --check
    """
    from genekb.net.retry import RetryPolicy
    from genekb.share.lock import PIN, check_pin
    from genekb.share.lock import sync as sync_stores
    from genekb.share.pull import pull_named
    from genekb.store.lockfile import existing_lock

    if url is not None:
        if check or file:
            raise typer.BadParameter("--check and --file are for what genekb.lock pins; leave out the address")
        with keep_interrupted():
            print_record(asdict(pull_named(url, **arguments)), json=json)
        return
    retry = RetryPolicy(n_jobs=arguments.pop("jobs"), timeout_s=arguments.pop("timeout_s"))
    home = arguments.pop("home")
    if any(arguments.values()):
        raise typer.BadParameter("--encoder, --digest, --public-key and --catalog go with an address or a name")
    path = existing_lock(file, hint=PIN)
    checked = partial(check_pin, home=home) if check else None
    bring = partial(sync_stores, path, home=home, retry=retry)
    print_compared("store", path, check=checked, sync=bring, json=json)


def lock(
    store: Annotated[
        list[str] | None, typer.Argument(help="Stores, and folders of fitted models; none: show what is pinned.")
    ] = None,
    arguments: Arguments = arguments_of("genekb.lock", "store", file={"type": Path}),
    json: options.Json = False,
) -> None:
    """Pin the stores and fitted models that a project uses, by digest, in genekb.lock; there names map to those.

    Example: genekb lock human@2022-11 --url s3://bucket/genes/human
    """
    from genekb.store.lockfile import new_lock_file, read_pins

    given = store or []
    if arguments["url"] and len(given) != 1:
        raise typer.BadParameter("goes with one store or model", param_hint="--url")
    path = new_lock_file(arguments.pop("file"))
    models = [one for one in given if (Path(one) / "model.json").is_file()]
    if models:
        from cellmodel.tl.model.share import lock as lock_models

        lock_models(models, url=arguments["url"], file=path)
    if not models or len(models) < len(given):
        genekb.lock([one for one in given if one not in models], file=path, **arguments)
    print_pins(read_pins(path), read_pins(path, "model"), path, json=json)


Node = tuple[str, Sequence["Node"]]  # a line of a tree, and the lines that hang on it


def draw_lineage(generations: Sequence["Generation"]) -> Iterator[str]:
    """Draw a store with the stores that it was made from inside it, oldest innermost."""
    child: Node | None = None
    for generation in reversed(generations):
        child = _generation(generation, parent=child)
    if child is not None:
        yield child[0]
        yield from _branches(child[1], before="")


def _branches(nodes: Sequence[Node], *, before: str) -> Iterator[str]:
    for number, (text, children) in enumerate(nodes, start=1):
        is_last = number == len(nodes)
        yield f"{before}{'└─ ' if is_last else '├─ '}{text}"
        yield from _branches(children, before=f"{before}{'   ' if is_last else '│  '}")


def _generation(generation: "Generation", *, parent: Node | None) -> Node:
    content = generation.to_dict()
    if not content["here"]:
        return f"{content['digest']} ({content['problem']})", ()
    derivation, template = generation.derivation, content["template"]
    added = set(derivation.encoders_added) if derivation else set()
    lines = [
        f"made: {content['made_at'] or 'not stated'} by {content['made_by'] or 'not stated'}",
        *([f"pulled from: {content['pulled_from']}"] if content["pulled_from"] else []),
        f"template: {template['number']} ({template['name']}); texts given to: {content['selection']}",
    ]
    children: list[Node] = [(line, ()) for line in lines]
    children.append(("sources", [(_source(row), ()) for row in content["sources"]]))
    children.append(("encoders", [(_encoder(entry, added), ()) for entry in content["encoders"]]))
    if parent is not None:
        children.append(("parent", [*((change, ()) for change in _changes(derivation)), parent]))
    return f"{content['store']} {content['digest']}", children


def _source(row: dict[str, Any]) -> str:
    return f"{row['name']}: {row['n_rows_read']:,} rows read, {row['n_rows_kept']:,} kept, sha256 {row['sha256'][:16]}"


def _encoder(entry: dict[str, Any], added: set[str]) -> str:
    made_from = entry["made_from"] or f"{entry['model']} {entry['revision']}".strip()
    new = ", not in the parent" if entry["encoder_id"] in added else ""
    return f"{entry['encoder_id']}: {made_from}, {entry['n_vectors']:,} vectors{new}"


def _changes(derivation: "Derivation | None") -> list[str]:
    if derivation is None:
        return []
    texts = f"{derivation.n_texts_kept:,} kept, {derivation.n_texts_new:,} new, {derivation.n_texts_gone:,} gone"
    lists = ("sources_replaced", "sources_added", "sources_left_out", "encoders_added", "encoders_left_out")
    changes = {name.replace("_", " "): ", ".join(getattr(derivation, name)) for name in lists}
    named = [f"{name}: {value}" for name, value in changes.items() if value]
    return [f"made from it by: {derivation.how}", f"texts: {texts}", *named]
