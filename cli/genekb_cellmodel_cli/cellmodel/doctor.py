"""The command `cellmodel doctor`: what this machine has for the work."""

from collections.abc import Iterator
from typing import Any

from genekb_cellmodel_cli.app import options
from genekb_cellmodel_cli.app.output import show, table


def doctor(home: options.Home = None, json: options.Json = False) -> None:
    """Say what is installed, which extras, threads, memory, GPUs and stores there are; nothing is changed.

    Example: cellmodel doctor --json
    """
    import genekb

    found = genekb.doctor(home=home)
    show(found, _lines(found), json=json)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from genekb.core.messages import counted

    version = found["versions"].get("genekb-cellmodel", "from its source tree")
    yield f"genekb-cellmodel {version}, Python {found['python']}"
    yield found["platform"]
    memory = f"{found['memory'] / 1e9:.1f} GB" if found["memory"] else "no limit found"
    gpus = ", ".join(found["gpus"]) or "none, so models are trained on the CPU"
    yield from (f"threads: {found['threads']}", f"memory: {memory}", f"GPUs: {gpus}", "")
    columns = {
        "extra": lambda row: row[0],
        "installed": lambda row: row[1]["is_here"],
        "lacks": lambda row: ", ".join(row[1]["lacks"]),
    }
    yield from table(columns, found["extras"].items())
    lacking = [extra for extra, one in found["extras"].items() if not one["is_here"]]
    if lacking:
        yield f"pip install 'genekb-cellmodel[{lacking[0]}]' brings what {lacking[0]} lacks"
    yield from ("", f"{counted(len(found['stores']), 'store')} in {found['home']}")
    for store in found["stores"]:
        what = store.get("fault") or f"{store['n_texts']:,} texts, {', '.join(store['encoders']) or 'no encoder'}"
        yield f"  {store['store']}: {what}"
    if not found["stores"]:
        yield "  make one with `genekb build`"
