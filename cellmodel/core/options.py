"""Arguments of functions as settings of a run; files and names, one or several."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cellmodel.core.config import BatchConfig, RunConfig, SemanticsConfig, Sentences, SpatialConfig

Paths = str | Path | Sequence[str | Path]  # one file, or several
_RENAMED: Final = {"random_state": "seed", "orthologs": "use_orthologs"}  # settings whose arguments have other names
_OF_BATCHES: Final = {"integration": "integration", "confounded_ok": "confounded_ok", "harmony_theta": "theta"}


def settings_of(
    base: RunConfig | None = None,
    *,
    batch_key: str | BatchConfig | None = None,
    spatial: bool | SpatialConfig = False,
    smooth_labels: bool = False,
    sentences: Sentences = "pooled",
    n_clusters: int | str | None = None,
    **given: Any,
) -> RunConfig:
    """Give the settings of a run by arguments of the same names; one at its default leaves what ``base`` says."""
    base, defaults = base or RunConfig(), RunConfig()
    of_batches = {name: given.pop(name) for name in _OF_BATCHES if name in given}
    named = {_RENAMED.get(name, name): value for name, value in given.items()}
    changed = {name: value for name, value in named.items() if value != getattr(defaults, name)}
    if sentences != SemanticsConfig().sentences:
        changed["semantics"] = replace(base.semantics, sentences=sentences)
    if n_clusters not in {None, "auto"}:
        changed["n_clusters"] = n_clusters
    batch = _batch(BatchConfig(key=batch_key) if isinstance(batch_key, str) else batch_key or base.batch, of_batches)
    return replace(base, **changed, batch=batch, spatial=_spatial(spatial or base.spatial, smooth_labels=smooth_labels))


def _batch(batch: BatchConfig | None, arguments: dict[str, Any]) -> BatchConfig | None:
    defaults = BatchConfig(key="")
    given = [name for name, value in arguments.items() if value != getattr(defaults, _OF_BATCHES[name])]
    if given and batch is None:
        names = ", ".join(f"`{name}`" for name in given)
        raise ValueError(
            f"{names} {'goes' if len(given) == 1 else 'go'} with `batch_key`, the column of obs with the batches"
        )
    return batch and replace(batch, **{_OF_BATCHES[name]: arguments[name] for name in given})


def _spatial(spatial: bool | SpatialConfig | None, *, smooth_labels: bool) -> SpatialConfig | None:  # noqa: FBT001
    if smooth_labels and not spatial:
        raise ValueError("`smooth_labels` needs coordinates; give spatial=True too")
    if not spatial:
        return None
    found = SpatialConfig() if spatial is True else spatial
    return replace(found, smooth_labels=True) if smooth_labels else found


def paths_of(paths: Paths) -> tuple[Path, ...]:
    """Give one file or several as paths."""
    return (Path(paths),) if isinstance(paths, str | Path) else tuple(map(Path, paths))


def names_of(names: str | Sequence[str]) -> tuple[str, ...]:
    """Give names that are a list, or text with commas between them."""
    return tuple(part.strip() for part in names.split(",") if part.strip()) if isinstance(names, str) else tuple(names)
