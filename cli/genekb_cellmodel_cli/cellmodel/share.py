"""Commands of `cellmodel` that share fitted models: push, pull, lock, sync."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import LockFile
from genekb_cellmodel_cli.app.output import (
    existing_lock,
    note,
    print_compared,
    print_pins,
    print_record,
    transfer_progress,
)


def push(
    model: Annotated[Path, typer.Argument(help="Folder that --save-model wrote.")],
    url: Annotated[str, typer.Argument(help="Folder, file://, s3://bucket/path or hf://models/owner/name.")],
    retry: options.Retry,
    json: options.Json = False,
) -> None:
    """Copy a fitted model to where others can pull it; an interrupted push goes on where it was.

    Example: cellmodel push model/ s3://bucket/models/pbmc
    """
    from cellmodel.tl.model.share import push_model
    from genekb.share.remotes import parse_address

    address = parse_address(url, hub_kind="models")
    with transfer_progress("what was sent is kept") as progress:
        shared = push_model(model, address, retry=retry.policy(), progress=progress)
    print_record(asdict(shared), json=json)


def pull(
    url: Annotated[str, typer.Argument(help="Address, with @DIGEST or @REVISION to pin it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model.")],
    retry: options.Retry,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Bring a shared model to this machine, every byte checked; an interrupted pull goes on where it was.

    Example: cellmodel pull s3://bucket/models/pbmc -o model/
    """
    from cellmodel.tl.model.share import pull_model
    from genekb.share.remotes import parse_address

    with transfer_progress() as progress:
        address = parse_address(url, hub_kind="models")
        shared = pull_model(address, output, overwrite=overwrite, retry=retry.policy(), progress=progress)
    print_record({"path": str(output), **asdict(shared)}, json=json)


def lock(
    model: Annotated[
        list[Path] | None, typer.Argument(help="Folders of models to pin; none: show what is pinned.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Where the model can be pulled from; what is known if left out.")
    ] = None,
    file: LockFile = None,
    json: options.Json = False,
) -> None:
    """Pin the models that a project uses, by digest and folder, in genekb.lock beside its stores.

    Example: cellmodel lock models/pbmc --url s3://bucket/models/pbmc
    """
    from cellmodel.tl.model.share import lock_models
    from genekb.core.errors import SourceUnusable
    from genekb.store.lockfile import LOCK_FILE, find_lock_file, read_pins

    path = file or find_lock_file() or Path(LOCK_FILE)
    if url and len(model or ()) != 1:
        raise typer.BadParameter("goes with one model", param_hint="--url")
    if not model and not path.is_file():
        raise SourceUnusable(f"no {path}; pin a model with `cellmodel lock FOLDER`")
    pins = lock_models(model, path, url=url or "") if model else read_pins(path, "model")
    stores = {pin.digest[:16] for pin in read_pins(path)}
    for pin in pins if model else ():
        if not pin.url:
            note(f"{pin.name} has no address: others need a copy of it; `cellmodel push` it and give --url")
        if pin.store_id and pin.store_id.partition(":")[2] not in stores:
            note(f"{pin.name} needs {pin.store_id}, which is not pinned; `genekb lock` it too")
    print_pins("model", pins, path, json=json)


def sync(
    retry: options.Retry,
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit with 5 where something differs.")] = False,
    file: LockFile = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model that is here and is not the pinned one.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Bring the models that genekb.lock pins to their folders, and check every byte of them.

    Example: cellmodel sync
    """
    from cellmodel.tl.model.share import check_model, sync_models

    path = existing_lock(file, hint="pin a model with `cellmodel lock FOLDER`")
    checked = partial(check_model, lock_file=path) if check else None
    bring = partial(sync_models, path, overwrite=overwrite, retry=retry.policy())
    print_compared("model", path, check=checked, sync=bring, json=json)
