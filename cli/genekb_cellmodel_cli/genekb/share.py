"""Commands of `genekb` that share stores: push, pull, lock, sync, keygen, sign."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import genekb
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import LockFile
from genekb_cellmodel_cli.app.output import (
    existing_lock,
    note,
    print_compared,
    print_lines,
    print_pins,
    print_record,
    transfer_progress,
)

if TYPE_CHECKING:
    from genekb.share.catalog import Listed

Encoders = Annotated[list[str] | None, typer.Option("--encoder", help="This encoder alone; repeatable.")]
Catalog = Annotated[
    str | None,
    typer.Option(help="Catalogue, a path or an address; else GENEKB_CATALOG, else catalog.toml of the home."),
]
PublicKey = Annotated[str | None, typer.Option(help="minisign key, or its file, that must have signed the store.")]


@dataclass(frozen=True, kw_only=True)
class ParallelRetry(options.Retry):
    """The same for several files at once."""

    n_jobs: Annotated[int, typer.Option("--jobs", help="Files on their way at once.", min=1, max=64)] = 4


def push(
    store: options.StoreName,
    url: Annotated[str, typer.Argument(help="Folder, file://, s3://bucket/path or hf://datasets/owner/name.")],
    retry: ParallelRetry,
    encoder: Encoders = None,
    catalog: Annotated[Path | None, typer.Option(help="Also list the store in this catalog.toml.")] = None,
    dry_run: options.DryRun = False,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Copy a store to where others can pull it; an interrupted push goes on where it was.

    Example: genekb push human@2022-11 s3://bucket/genes/human
    """
    from genekb.share.catalog import add_to_catalog, check_catalog, list_manifest
    from genekb.share.push import plan_push, push_store
    from genekb.share.remotes import parse_address

    kb = genekb.open(store, home=home)
    address = parse_address(url)
    if catalog:
        check_catalog(catalog)
    if dry_run:
        plan = plan_push(kb, address, encoders=encoder or ())
        print_record(
            {"url": plan.url, "digest": plan.digest, "n_files": plan.n_files, "n_bytes": plan.n_bytes}, json=json
        )
        return
    with transfer_progress("what was sent is kept") as progress:
        pushed = push_store(kb, address, encoders=encoder or (), retry=retry.policy(), progress=progress)
    if catalog:
        add_to_catalog(list_manifest(kb.manifest, pushed.url, catalog=catalog), catalog)
    print_record(asdict(pushed), json=json)


def pull(
    url: Annotated[str, typer.Argument(help="Address, with @DIGEST or @REVISION to pin it; or a catalogue's name.")],
    retry: ParallelRetry,
    encoder: Encoders = None,
    digest: Annotated[str | None, typer.Option(help="Digest, or its first digits, that the store must have.")] = None,
    public_key: PublicKey = None,
    catalog: Catalog = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Bring a shared store to this machine, every byte checked; an interrupted pull goes on where it was.

    Example: genekb pull hf://datasets/lab/human@main --encoder minilm
    """
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
    with transfer_progress() as progress:
        pulled = pull_store(address, config, home=home, progress=progress)
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
    from genekb.core.errors import SourceUnusable
    from genekb.share.lock import pin_store, url_for_lock, write_pins
    from genekb.share.pull import open_store
    from genekb.store.home import find_home
    from genekb.store.lockfile import LOCK_FILE, find_lock_file, note_lock_file, read_pins

    path = file or find_lock_file() or Path(LOCK_FILE)
    if url and len(store or ()) != 1:
        raise typer.BadParameter("goes with one store", param_hint="--url")
    if not store and not path.is_file():
        raise SourceUnusable(f"no {path}; pin a store with `genekb lock NAME`")
    if store:
        place = url_for_lock(url or "", path)
        new = [pin_store(open_store(name, home=home), encoders=encoder or (), url=place) for name in store]
        write_pins(new, path)
        note_lock_file(path, find_home(home))
        for pin in new:
            if not pin.url:
                note(f"{pin.name} has no address: others need a copy of it; `genekb push` it and give --url")
    print_pins("store", read_pins(path), path, json=json)


def sync(
    retry: ParallelRetry,
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit with 5 where something differs.")] = False,
    file: LockFile = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Bring the stores that genekb.lock pins to this machine, and check every byte of them.

    Example: genekb sync
    """
    from genekb.share.lock import check_pin
    from genekb.share.lock import sync as sync_stores

    path = existing_lock(file, hint="pin a store with `genekb lock NAME`")
    checked = partial(check_pin, home=home) if check else None
    bring = partial(sync_stores, path, home=home, retry=retry.policy())
    print_compared("store", path, check=checked, sync=bring, json=json)


def keygen(
    key: Annotated[Path, typer.Argument(help="File of the secret key; the public one gets the suffix .pub.")],
) -> None:
    """Make a pair of keys to sign stores with; the password is taken from GENEKB_SIGN_PASSWORD.

    Example: genekb keygen ~/.genekb.key
    """
    from genekb.share.signing import make_keys

    public = make_keys(key)
    print_lines([str(public), public.read_text(encoding="utf-8").splitlines()[-1]])


def sign(
    store: options.StoreName,
    key: Annotated[Path, typer.Option(help="Secret key, see `genekb keygen`.")],
    home: options.Home = None,
) -> None:
    """Sign a store's manifest, whose digests cover all files; the password is taken from GENEKB_SIGN_PASSWORD.

    Example: genekb sign human@2022-11 --key ~/.genekb.key
    """
    from genekb.share.signing import sign_store
    from genekb.store.home import find_store

    print_lines([str(sign_store(find_store(store, home), key))])


def read_listed(location: str | None, home: Path | None) -> "tuple[Listed, ...]":
    """Read the catalogue that was named, else the user's own."""
    import os

    from genekb.share.catalog import CATALOG, read_catalog
    from genekb.store.home import find_home

    return read_catalog(location or os.environ.get("GENEKB_CATALOG") or str(find_home(home) / CATALOG))
