"""Options that are text on the command line and something else behind it."""

import typer


def parse_n_clusters(text: str) -> int | None:
    """Read a number of clusters: a number >= 1, or None for auto."""
    if text == "auto":
        return None
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise typer.BadParameter(f"--n-clusters is a number >= 1 or auto, not {text!r}")
