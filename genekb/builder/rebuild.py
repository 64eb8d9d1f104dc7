"""Build stores again from a lock file alone: the same sources, recipes and digest, or what has changed."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from genekb.builder.assemble import BuildResult
from genekb.builder.plan import BuildConfig, build
from genekb.core.errors import NotAvailable, SourceUnusable, StoreCorrupt
from genekb.core.messages import counted
from genekb.core.python import for_python
from genekb.files.atomic import is_plain_name, sha256_file, user_path
from genekb.files.tables import table_format
from genekb.genes.texts import find_template
from genekb.net.client import Absent, open_client
from genekb.net.download import WebDownload
from genekb.net.retry import RetryPolicy
from genekb.sources.base import SourceTables
from genekb.sources.gene_terms import find_term_files
from genekb.sources.gene_texts import find_text_files
from genekb.sources.ncbi_bulk import has_gene_info
from genekb.sources.open import add_knowledge, read_records
from genekb.sources.table import DEMO, FORMATS, read_demo_table
from genekb.store.home import find_home
from genekb.store.lockfile import Pin, existing_lock, read_pins
from genekb.store.reader import Store

log = logging.getLogger(__name__)
_HINT = "pin the store where it was built with `genekb lock NAME` and `source`"


@for_python
def rebuild(
    file: str | Path | None = None,
    *,
    source: str | Path | None = None,
    home: str | Path | None = None,
    retry: RetryPolicy | None = None,
    **settings: Any,
) -> list[Store]:
    """Build the stores of a lock file again, as `genekb build --lock` does, each with the digest that it pins.

    Parameters
    ----------
    file
        Lock file; else the project's genekb.lock.
    source
        Folder that has the source files; what it lacks is downloaded from the addresses in the lock file.
    home
        Artifact home, where downloads are kept, too; else GENEKB_HOME, else the user's data folder.
    retry
        How servers are asked.
    settings
        How this machine encodes: fields of :class:`BuildConfig` from ``device`` on.

    Raises
    ------
    StoreCorrupt
        If a source is not as it was, or the store has another digest.
    NotAvailable
        If a source is not here and has no address, or a server does not give it.
    SourceUnusable
        If the lock file does not say how a store was built.

    Examples
    --------
    >>> import genekb as gk
    >>> _ = gk.build(name="mine", model="hash-16")
    >>> _ = gk.lock("mine", file="genekb.lock")
    >>> [kb.manifest.full_name for kb in gk.rebuild("genekb.lock", home="home-of-a-colleague")]
    ['mine@1']
    """
    path = existing_lock(file, hint=_HINT)
    return [
        _rebuild(
            pin,
            path,
            source=user_path(source),
            home=user_path(home),
            retry=retry or RetryPolicy(),
            settings=settings,
        )
        for pin in read_pins(path)
    ]


def _rebuild(
    pin: Pin, path: Path, *, source: Path | None, home: Path | None, retry: RetryPolicy, settings: Mapping[str, Any]
) -> Store:
    if not pin.build:
        raise SourceUnusable(f"{path} does not say how {pin.name} was built; {_HINT}, or pull it")
    try:
        recipe, recorded = pin.build, {str(one["name"]): one for one in pin.build["sources"]}
        config = BuildConfig(
            name=pin.name,
            models=tuple(recipe["models"]),
            genes=recipe["genes"],
            only_names=tuple(recipe["only_genes"]) if "only_genes" in recipe else None,
            template=find_template(str(recipe["template"])),
            vector_dtype=recipe["vector_dtype"],
            **settings,
        )
        taxa = [str(tax_id) for tax_id in recipe["taxa"]]
        if not recorded:
            raise ValueError("it names no source")
    except (KeyError, TypeError, ValueError) as error:
        raise SourceUnusable(f"{path}: the build of {pin.name} is damaged ({error}); {_HINT}") from error
    kept = find_home(home) / "sources" / pin.name
    files = _find_files(pin, recorded, folders=[*([source] if source else []), kept], retry=retry)
    with TemporaryDirectory() as folder:  # the recorded files and no others
        links = []
        for name, there in files.items():
            links.append(Path(folder) / ("apart" if recorded[name].get("is_apart") else "main") / name)
            links[-1].parent.mkdir(exist_ok=True)
            links[-1].symlink_to(there.absolute())
        tables = _read(links, taxa=taxa)
    made = build(tables, config, home=home)
    if made.manifest.digest != pin.digest:
        raise StoreCorrupt(
            f"{pin.name} was built with digest {made.manifest.digest[:16]}, {_difference(made, pin, path)}"
        )
    return Store(made.folder)


def _difference(made: BuildResult, pin: Pin, path: Path) -> str:
    """Say in what a store differs from the one that is pinned, as far as a lock file shows it."""
    lost = [key for key in pin.encoders if key not in made.manifest.encoders]
    why = f"its encoder {lost[0]} has another recipe here" if lost else "its sources and recipes are the same"
    versions = f"{pin.build.get('made_by')} made it, {made.manifest.created_by} this one"
    return f"{path} pins {pin.digest[:16]}: {why}; {versions}"


def _find_files(
    pin: Pin, recorded: Mapping[str, Mapping[str, Any]], *, folders: Sequence[Path], retry: RetryPolicy
) -> dict[str, Path]:
    """Find the source files, or download them; ``StoreCorrupt`` names those that are not as they were."""
    files = {name: _find_file(name, entry, folders=folders, retry=retry) for name, entry in recorded.items()}
    changed = [
        f"{name} (recorded sha256 {recorded[name]['sha256'][:16]}, found {found[:16]})"
        for name, file in files.items()
        if (found := sha256_file(file)) != recorded[name]["sha256"]
    ]
    if changed:
        raise StoreCorrupt(
            f"{counted(len(changed), 'source')} of {pin.name} changed since it was built: {', '.join(changed)}; "
            "give a folder with the recorded files with `source`, or pull the store"
        )
    return files


def _find_file(name: str, entry: Mapping[str, Any], *, folders: Sequence[Path], retry: RetryPolicy) -> Path:
    if not is_plain_name(name):
        raise SourceUnusable(f"{name[:80]!r} is no plain name of a source file; do not use this lock file")
    for file in (*(folder / name for folder in folders), *([DEMO] if name == DEMO.name else [])):
        if file.is_file():
            return file
    if not entry.get("url"):
        raise NotAvailable(f"{name} is not here, and the lock file has no address of it; give its folder with `source`")
    path = folders[-1] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    log.info("%s: from %s", name, entry["url"])
    with open_client(retry.timeout_s) as client:
        try:
            WebDownload(client=client, retry=retry, hint="give its folder with `source`").fetch(entry["url"], path)
        except Absent as error:
            raise NotAvailable(f"{entry['url']} is gone; give a folder that has {name} with `source`") from error
    return path


def _read(paths: Sequence[Path], *, taxa: Sequence[str]) -> SourceTables:
    """Read source files again, further texts and terms in the order in which they were read."""
    first, folder = paths[0], paths[0].parent
    is_table = table_format(first) in FORMATS and not has_gene_info(folder)
    tables = read_demo_table() if first.name == DEMO.name else read_records(first if is_table else folder, taxa=taxa)
    further = paths[1:] if is_table else paths
    texts, terms = (
        [path for path in further if path in set(find(path.parent))] for find in (find_text_files, find_term_files)
    )
    return add_knowledge(tables, texts=texts, annotations=terms, min_resolved=0.0)
