"""Commands of `genekb` that share stores: push, pull, lock."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import genekb
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import LockFile
from genekb_cellmodel_cli.app.output import (
    keep_interrupted,
    note,
    print_compared,
    print_pins,
    print_record,
)

if TYPE_CHECKING:
    from genekb.share.catalog import Listed

Encoders = Annotated[list[str] | None, typer.Option("--encoder", help="This encoder alone; repeatable.")]
Catalog = Annotated[
    str | None,
    typer.Option(help="Catalog, a path or an address; else GENEKB_CATALOG, else catalog.toml of the home."),
]
PublicKey = Annotated[str | None, typer.Option(help="minisign key, or its file, that must have signed the store.")]


@dataclass(frozen=True, kw_only=True)
class ParallelRetry(options.Retry):
    """The same for several files at once."""

    n_jobs: Annotated[int, typer.Option("--jobs", help="Files on their way at once.", min=1, max=64)] = 4


def push(
    store: options.NamedStore,
    url: Annotated[str, typer.Argument(help="Folder, file://, s3://bucket/path or hf://datasets/owner/name.")],
    retry: ParallelRetry,
    encoder: Encoders = None,
    catalog: Annotated[Path | None, typer.Option(help="Also list the store in this catalog.toml.")] = None,
    allow_licence: Annotated[
        list[str] | None,
        typer.Option(help="Share this source though its licence is not stated or not free; repeatable."),
    ] = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Copy a store to where others can pull it; an interrupted push goes on where it was.

    Example: genekb push human@2022-11 s3://bucket/genes/human
    """
    from genekb.share.catalog import add_to_catalog, check_catalog, list_manifest
    from genekb.share.push import plan_push, push_store
    from genekb.share.remotes import parse_address

    kb = store.open()
    address = parse_address(url)
    if catalog:
        check_catalog(catalog)
    if dry_run:
        plan = plan_push(kb, address, encoders=encoder or ())
        print_record(
            {"url": plan.url, "digest": plan.digest, "n_files": plan.n_files, "n_bytes": plan.n_bytes}, json=json
        )
        return
    with keep_interrupted("what was sent is kept"):
        pushed = push_store(
            kb, address, encoders=encoder or (), allow_licence=allow_licence or (), retry=retry.policy()
        )
    if catalog:
        add_to_catalog(list_manifest(kb.manifest, pushed.url, catalog=catalog), catalog)
    print_record(asdict(pushed), json=json)


def pull(
    retry: ParallelRetry,
    url: Annotated[
        str | None,
        typer.Argument(
            help="Address, with @DIGEST or @REVISION to pin it; or a catalog's name; all that genekb.lock pins if left "
            "out.",
            show_default=False,
        ),
    ] = None,
    encoder: Encoders = None,
    digest: Annotated[str | None, typer.Option(help="Digest, or its first digits, that the store must have.")] = None,
    public_key: PublicKey = None,
    catalog: Catalog = None,
    file: LockFile = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare with the lock file; exit with 5 where something differs.")
    ] = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Bring a shared store, or those that genekb.lock pins, to this machine, every byte checked.

    An interrupted pull goes on where it was.

    Example: genekb pull hf://datasets/lab/human@main --encoder minilm; genekb pull --check
    """
    if url is None:
        if encoder or digest or public_key or catalog:
            raise typer.BadParameter("--encoder, --digest, --public-key and --catalog go with an address or a name")
        _pull_pinned(file, home, retry, check=check, json=json)
        return
    if check or file:
        raise typer.BadParameter("--check and --file are for what genekb.lock pins; leave out the address")
    from genekb.share.catalog import address_of, find_listed
    from genekb.share.pull import PullConfig, pull_store
    from genekb.share.remotes import is_address, parse_address

    wanted = digest or ""
    if is_address(url) or "/" in url or Path(url).expanduser().exists():
        address = parse_address(url)
    else:
        listed = find_listed(read_listed(catalog, home), url)
        address, wanted = address_of(listed), wanted or listed.digest
    config = PullConfig(encoders=tuple(encoder or ()), digest=wanted, public_key=public_key or "", retry=retry.policy())
    with keep_interrupted():
        pulled = pull_store(address, config, home=home)
    name = pulled.manifest.full_name
    if pulled.replaced:
        note(f"{name} named {pulled.replaced[:16]} before; that store is kept, by digest")
    if pulled.left:
        note(f"left where they are: {', '.join(pulled.left)}")
    content: dict[str, Any] = {
        "store": name,
        "digest": pulled.manifest.digest,
        "path": str(pulled.folder),
        "url": pulled.url,
        "n_bytes_now": pulled.n_bytes,
    }
    print_record(content | ({"signed": pulled.signed} if pulled.signed else {}), json=json)


def _pull_pinned(file: Path | None, home: Path | None, retry: ParallelRetry, *, check: bool, json: bool) -> None:
    from genekb.share.lock import PIN, check_pin
    from genekb.share.lock import sync as sync_stores
    from genekb.store.lockfile import existing_lock

    path = existing_lock(file, hint=PIN)
    checked = partial(check_pin, home=home) if check else None
    bring = partial(sync_stores, path, home=home, retry=retry.policy())
    print_compared("store", path, check=checked, sync=bring, json=json)


def lock(
    store: Annotated[list[str] | None, typer.Argument(help="Stores to pin; none: show what is pinned.")] = None,
    encoder: Encoders = None,
    url: Annotated[str | None, typer.Option(help="Where the store can be pulled from, if it was made here.")] = None,
    file: LockFile = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Pin the stores that a project uses, by digest, in genekb.lock; in that folder names then map to those.

    Example: genekb lock human@2022-11 --url s3://bucket/genes/human
    """
    from genekb.store.lockfile import new_lock_file

    if url and len(store or ()) != 1:
        raise typer.BadParameter("goes with one store", param_hint="--url")
    path = new_lock_file(file)
    print_pins("store", genekb.lock(store or (), encoder=encoder or (), url=url, file=path, home=home), path, json=json)


def read_listed(location: str | None, home: Path | None) -> "tuple[Listed, ...]":
    """Read the catalog that was named, else the user's own."""
    import os

    from genekb.share.catalog import CATALOG, read_catalog
    from genekb.store.home import find_home

    return read_catalog(location or os.environ.get("GENEKB_CATALOG") or str(find_home(home) / CATALOG))
