"""Commands of `cellmodel` that share fitted models: push and pull."""

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
    retry: options.Retry,
    url: Annotated[
        str | None,
        typer.Argument(
            help="Address, with @DIGEST or @REVISION to pin it; what genekb.lock pins if left out.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="With an address: folder for the model.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Without one: only compare; exit with 5 where something differs.")
    ] = False,
    file: LockFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another model that is here.")] = False,
    json: options.Json = False,
) -> None:
    """Bring a shared model, or those that genekb.lock pins, to this machine, every byte checked.

    An interrupted pull goes on where it was.

    Example: cellmodel model pull s3://bucket/models/pbmc -o model/

    Example: cellmodel model pull
    """
    from cellmodel.tl.model import share
    from genekb.store.lockfile import existing_lock

    if url is None:
        if output is not None:
            raise typer.BadParameter("--output goes with an address; what genekb.lock pins goes to its own folders")
        path = existing_lock(file, hint=share.PIN)
        checked = partial(share.check_model, lock_file=path) if check else None
        bring = partial(share.sync_models, path, overwrite=overwrite, retry=retry.policy())
        print_compared("model", path, check=checked, sync=bring, json=json)
        return
    if output is None or check or file is not None:
        raise typer.BadParameter("an address needs --output FOLDER; --check and --file are of what genekb.lock pins")
    with keep_interrupted():
        shared = share.pull(url, output, overwrite=overwrite, **asdict(retry))
    print_record({"path": str(output), **asdict(shared)}, json=json)
