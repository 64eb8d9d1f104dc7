"""What the shell completes: stores, encoders, models, species, and the columns of a cell file."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from genekb.core.errors import GeneKBError

_COLUMNS: Final = (
    "cluster_key",
    "cluster_key_b",
    "label_key",
    "condition_key",
    "truth",
    "pred",
    "color",
    "rows",
    "columns",
)


def complete(command: Any) -> None:
    """Let the parameters of a command complete what is known by their names."""
    for param in command.params:
        if param.name in _BY_NAME:
            param._custom_shell_complete = _matching(_BY_NAME[param.name])


def _matching(names: Callable[[Any, Any], Iterable[str]]) -> Callable[[Any, Any, str], list[str]]:
    """Give the names that begin as typed; none where they cannot be read, for a shell can show no error."""

    def matching(ctx: Any, param: Any, incomplete: str) -> list[str]:
        try:
            return [name for name in names(_given(ctx), param) if name.startswith(incomplete)]
        except (ImportError, OSError, ValueError, KeyError, IndexError, GeneKBError):
            return []

    return matching


def _given(ctx: Any) -> dict[str, Any]:
    """Values by parameter; arguments too, which the parser leaves aside where the last option has no value yet."""
    arguments = [param.name for param in ctx.command.params if param.param_type_name == "argument"]
    return {key: value for key, value in ctx.params.items() if value} | dict(zip(arguments, ctx.args, strict=False))


def _stores(params: dict[str, Any], _: Any) -> list[str]:
    from genekb.store.home import find_home, list_store_folders

    return [folder.parent.name for folder in list_store_folders(find_home(params.get("home")))]


def _encoders(params: dict[str, Any], _: Any) -> list[str]:
    from genekb.store.home import find_store
    from genekb.store.manifest import read_manifest

    store = params.get("kb") or (params["store"][0] if isinstance(params["store"], list) else params["store"])
    encoders = read_manifest(find_store(store, params.get("home"))).encoders
    return [str(entry["recipe"]["name"]) for entry in encoders.values()]


def _models(params: dict[str, Any], param: Any) -> list[str]:
    from genekb.encoders.kinds import entries, plugins

    if "path" in params or param.param_type_name == "argument":  # the folder of a fitted model
        return []
    return [*(entry.name for entry in entries()), *plugins()]


def _taxa(params: dict[str, Any], _: Any) -> list[str]:
    from genekb.genes.taxa import TAXA

    return [taxon.name for taxon in TAXA]


def _columns(part: str) -> Callable[[dict[str, Any], Any], list[str]]:
    def columns(params: dict[str, Any], param: Any) -> list[str]:
        from cellmodel.io.formats.anndata import column_names

        other = {"cluster_key_b": "b", "label_key": "reference"}.get(param.name, "path")
        first = params.get(other) or params.get("path") or (params.get("paths") or [params.get("a")])[0]
        return column_names(Path(first), part)

    return columns


_BY_NAME: Final[dict[str, Callable[[dict[str, Any], Any], list[str]]]] = {
    "kb": _stores,
    "kb_b": _stores,
    "store": _stores,
    "old": _stores,
    "new": _stores,
    "encoder": _encoders,
    "model": _models,
    "taxon": _taxa,
    "gene_key": _columns("var"),
    **dict.fromkeys(_COLUMNS, _columns("obs")),
}
