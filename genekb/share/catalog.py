"""Catalogs: what can be pulled, from where, under which terms; a TOML file anywhere that files are shared."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.core.messages import known_names
from genekb.files.atomic import system_errors, write_toml
from genekb.files.replace import Target, check_targets
from genekb.net.retry import RetryPolicy
from genekb.share.remotes import Address, at_digest, is_address, is_relative, open_remote, parse_address
from genekb.share.transfer import read_remote_file
from genekb.store.home import find_home
from genekb.store.manifest import Manifest

CATALOG: Final = "catalog.toml"
CATALOG_VERSION: Final = 1
_LIMIT: Final = 1 << 24
_HEADER: Final = (
    "# Stores that can be pulled by `genekb pull NAME`; `genekb info` shows them, `genekb push` writes them here.\n"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One store of a catalog."""

    name: str  # ``NAME@RELEASE``
    digest: str  # SHA-256 in hex of what it holds
    # where it lies; relative to the catalog, or an address, with the user and password of the catalog's own
    url: str
    taxa: tuple[int, ...]  # taxa, encoders, licences: as in its manifest
    encoders: tuple[str, ...]
    n_genes: int  # n_genes, n_texts, n_bytes: sizes
    n_texts: int
    n_bytes: int
    licences: tuple[str, ...]


def list_manifest(manifest: Manifest, url: str, *, catalog: Path) -> Listed:
    """Describe a store as a catalog does; the address of what lies below the catalog's folder is relative."""
    base = catalog.absolute().parent.as_uri() + "/"
    return Listed(
        name=manifest.full_name,
        digest=manifest.digest,
        url=unquote(url.removeprefix(base)) if url.startswith(base) else url,
        taxa=manifest.taxa,
        encoders=tuple(manifest.encoders),
        n_genes=manifest.n_genes,
        n_texts=manifest.n_texts,
        n_bytes=sum(file.n_bytes for file in manifest.files),
        licences=manifest.licences,
    )


def find_catalog(location: str | None, home: Path | None) -> str:
    """Find the catalog: the one given, else that of ``GENEKB_CATALOG``, else the home's."""
    return location or os.environ.get("GENEKB_CATALOG") or str(find_home(home) / CATALOG)


def read_catalog(location: str, *, retry: RetryPolicy | None = None) -> tuple[Listed, ...]:
    """Read a catalog by the path or address of its file, or folder; relative addresses in it are made whole."""
    base, name = _base_and_name(location)
    retry = retry or RetryPolicy()
    address = parse_address(base)
    with open_remote(address, timeout_s=retry.timeout_s) as remote:
        content = read_remote_file(remote, name, limit=_LIMIT, retry=retry)
    if content is None:
        raise NotAvailable(
            f"no catalog at {remote.name}/{name} to look in; give one with `catalog`, or the address of a store"
        )
    try:
        table = tomllib.loads(content.decode("utf-8"))
        if table.get("version") != CATALOG_VERSION:
            raise ValueError(f"its version is {table.get('version')}, {CATALOG_VERSION} is read here")
        return tuple(_listed(entry, base) for entry in table.get("store", []))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceUnusable(f"{remote.name}/{name} is no catalog ({error}); ask its owner") from error


def _base_and_name(location: str) -> tuple[str, str]:
    if not location.endswith(".toml"):
        return location.rstrip("/"), CATALOG
    if is_address(location):
        base, _, name = location.rpartition("/")
        return base, name
    return str(Path(location).parent), Path(location).name


def _listed(entry: Mapping[str, Any], base: str) -> Listed:
    url = str(entry.get("url", ""))
    return Listed(
        name=str(entry["name"]),
        digest=str(entry["digest"]),
        url=f"{base}/{url}" if url and is_relative(url) else url,
        taxa=tuple(int(taxon) for taxon in entry["taxa"]),
        encoders=tuple(map(str, entry["encoders"])),
        n_genes=int(entry["n_genes"]),
        n_texts=int(entry["n_texts"]),
        n_bytes=int(entry["n_bytes"]),
        licences=tuple(map(str, entry["licences"])),
    )


def add_to_catalog(listed: Listed, path: Path) -> None:
    """Add a store to a catalog on this machine, in place of an entry with the same name."""
    kept = [entry for entry in check_catalog(path) if entry["name"] != listed.name]
    stores = sorted([*kept, asdict(listed)], key=lambda item: str(item["name"]))
    write_toml({"version": CATALOG_VERSION, "store": stores}, path, header=_HEADER, argument="catalog")


def check_catalog(path: Path) -> list[dict[str, Any]]:
    """Check that a catalog on this machine can be added to, and give its entries; none if it does not exist."""
    check_targets([Target(path, makes_parents=True)], overwrite=True)
    try:
        with system_errors(f"{path} cannot be read", hint="give another `catalog`"):
            content = path.read_text(encoding="utf-8") if path.exists() else ""
        entries = tomllib.loads(content).get("store", [])
        return [dict(entry) | {"name": str(entry["name"])} for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise SourceUnusable(f"{path} is no catalog ({error}); give another `catalog`") from error


def address_of(listed: Listed) -> Address:
    """Address of a listed store, pinned to its digest where versions lie by digest."""
    address = parse_address(listed.url)
    return at_digest(address, address.revision or listed.digest)


def find_listed(catalog: Sequence[Listed], name: str) -> Listed:
    """Find a store by ``NAME@RELEASE``, or the last release of ``NAME`` in the order of the catalog."""
    fits = [entry for entry in catalog if name in {entry.name, entry.name.partition("@")[0]}]
    if not fits:
        known = known_names(name, (entry.name for entry in catalog))
        raise NotAvailable(f"the catalog has no {name!r} (it has: {known}); `genekb info` with `remote` shows it")
    if not fits[-1].url:
        raise NotAvailable(f"the catalog has no address of {fits[-1].name}; build it, its digest is {fits[-1].digest}")
    return fits[-1]
