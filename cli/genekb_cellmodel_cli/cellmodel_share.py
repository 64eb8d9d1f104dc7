"""Commands of `cellmodel` that share fitted models: push, pull."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from genekb.interrupts import told_when_interrupted
from genekb_cellmodel_cli import options
from genekb_cellmodel_cli.genekb_share import GO_ON, Timeout
from genekb_cellmodel_cli.output import print_json, print_lines, progress_bar


def push(
    model: Annotated[Path, typer.Argument(help="Folder that --save-model wrote.")],
    url: Annotated[str, typer.Argument(help="Folder, file://, s3://bucket/path or hf://models/owner/name.")],
    timeout_s: Timeout = 60.0,
    json: options.Json = False,
) -> None:
    """Copy a fitted model to where others can pull it; an interrupted push goes on where it was.

    Example: cellmodel push model/ s3://bucket/models/pbmc
    """
    from cellmodel.sharing import push_model
    from genekb.share.addresses import parse_address
    from genekb.share.transfer import Patience

    address = parse_address(url, hub_kind="models")
    with told_when_interrupted(f"what was sent is kept, {GO_ON}"), progress_bar() as progress:
        shared = push_model(model, address, patience=Patience(timeout_s=timeout_s), progress=progress)
    print_json(asdict(shared)) if json else print_lines(f"{key}: {value}" for key, value in asdict(shared).items())


def pull(
    url: Annotated[str, typer.Argument(help="Address, with @DIGEST or @REVISION to pin it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model.", show_default=False)],
    overwrite: options.Overwrite = False,
    timeout_s: Timeout = 60.0,
    json: options.Json = False,
) -> None:
    """Bring a shared model to this machine, every byte checked; an interrupted pull goes on where it was.

    Example: cellmodel pull s3://bucket/models/pbmc -o model/
    """
    from cellmodel.sharing import pull_model
    from genekb.share.addresses import parse_address
    from genekb.share.transfer import Patience

    with told_when_interrupted(f"what has arrived is kept, {GO_ON}"), progress_bar() as progress:
        shared = pull_model(
            parse_address(url, hub_kind="models"),
            output,
            overwrite=overwrite,
            patience=Patience(timeout_s=timeout_s),
            progress=progress,
        )
    content = {"path": str(output), **asdict(shared)}
    print_json(content) if json else print_lines(f"{key}: {value}" for key, value in content.items())


def register(app: typer.Typer) -> None:
    """Add the commands to `cellmodel`."""
    app.command()(push)
    app.command()(pull)
