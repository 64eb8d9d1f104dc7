"""Commands of `genekb` that share stores: push, pull, lock."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import genekb
from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import LockFile, arguments_of
from genekb_cellmodel_cli.app.output import keep_interrupted, print_compared, print_pins, print_record
from genekb_cellmodel_cli.app.signature import Arguments

if TYPE_CHECKING:
    from genekb.net.retry import RetryPolicy

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
    from genekb.share.pull import pull_named

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
    _pull_pinned(file, home, retry, check=check, json=json)


def _pull_pinned(file: Path | None, home: Path | None, retry: "RetryPolicy", *, check: bool, json: bool) -> None:
    from genekb.share.lock import PIN, check_pin
    from genekb.share.lock import sync as sync_stores
    from genekb.store.lockfile import existing_lock

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
