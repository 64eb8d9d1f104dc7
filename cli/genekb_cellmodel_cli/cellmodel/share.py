"""Commands of `cellmodel` that share fitted models: push, pull, lock, sync."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.options import LockFile
from genekb_cellmodel_cli.app.output import (
    keep_interrupted,
    print_compared,
    print_pins,
    print_record,
)


def push(
    model: Annotated[Path, typer.Argument(help="Folder that --save-model wrote.")],
    url: Annotated[str, typer.Argument(help="Folder, file://, s3://bucket/path or hf://models/owner/name.")],
    retry: options.Retry,
    json: options.Json = False,
) -> None:
    """Copy a fitted model to where others can pull it; an interrupted push goes on where it was.

    Example: cellmodel model push model/ s3://bucket/models/pbmc
    """
    from cellmodel.tl.model.share import push as push_model

    with keep_interrupted("what was sent is kept"):
        print_record(asdict(push_model(model, url, **asdict(retry))), json=json)


def pull(
    url: Annotated[str, typer.Argument(help="Address, with @DIGEST or @REVISION to pin it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model.")],
    retry: options.Retry,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Bring a shared model to this machine, every byte checked; an interrupted pull goes on where it was.

    Example: cellmodel model pull s3://bucket/models/pbmc -o model/
    """
    from cellmodel.tl.model.share import pull as pull_model

    with keep_interrupted():
        shared = pull_model(url, output, overwrite=overwrite, **asdict(retry))
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

    Example: cellmodel model lock models/pbmc --url s3://bucket/models/pbmc
    """
    from cellmodel.tl.model.share import lock as lock_models
    from genekb.store.lockfile import new_lock_file

    if url and len(model or ()) != 1:
        raise typer.BadParameter("goes with one model", param_hint="--url")
    path = new_lock_file(file)
    print_pins("model", lock_models(model or (), url=url, file=path), path, json=json)


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

    Example: cellmodel model sync
    """
    from cellmodel.tl.model.share import PIN, check_model, sync_models
    from genekb.store.lockfile import existing_lock

    path = existing_lock(file, hint=PIN)
    checked = partial(check_model, lock_file=path) if check else None
    bring = partial(sync_models, path, overwrite=overwrite, retry=retry.policy())
    print_compared("model", path, check=checked, sync=bring, json=json)
