"""Settings of a run by the names of the commands' options, as tools take them; files and names, one or several."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypedDict

from cellmodel.core.config import BatchConfig, HeadName, RunConfig, Sentences, SpatialConfig

Paths = str | Path | Sequence[str | Path]  # one file, or several


class GeneSettings(TypedDict, total=False):
    """Options of every command that looks genes up in a store."""

    encoder: str | None
    min_coverage: float
    orthologs: bool
    random_state: int
    values: str


class RunSettings(TypedDict, total=False):
    """Further options of the commands that embed cells."""

    min_coverage: float
    orthologs: bool
    sentences: Sentences
    low_data: bool
    integration: str | None
    confounded_ok: bool
    harmony_theta: float
    head: HeadName | None
    smooth_labels: bool
    device: str
    values: str


_RENAMED: Final = {"random_state": "seed", "orthologs": "use_orthologs"}


def settings_of(base: RunConfig | None = None, **given: Any) -> RunConfig:
    """Give the settings of a run, those of ``base`` where nothing else is given, by the names of the options."""
    base, found = base or RunConfig(), dict[str, Any]()
    given.pop("values", None)
    batch_key, use_rep = given.pop("batch_key", None), given.pop("use_rep", None)
    of_batch = {name: given.pop(name) for name in ("integration", "confounded_ok", "harmony_theta") if name in given}
    batch = BatchConfig(key=batch_key) if isinstance(batch_key, str) else batch_key or base.batch
    if of_batch and batch is None:
        raise ValueError(f"{', '.join(of_batch)} go with batch_key, the column of obs with the batches")
    if batch is not None:
        found["batch"] = replace(
            batch, **{"theta" if key == "harmony_theta" else key: each for key, each in of_batch.items()}
        )
    if use_rep is not None:
        found["use_rep"] = use_rep
    spatial, smooth = given.pop("spatial", base.spatial), given.pop("smooth_labels", False)
    if smooth and not spatial:
        raise ValueError("smooth_labels needs coordinates; give spatial=True too")
    if spatial is True:
        spatial = SpatialConfig()
    found["spatial"] = replace(spatial, smooth_labels=True) if smooth else spatial or None
    if "sentences" in given:
        found["semantics"] = replace(base.semantics, sentences=given.pop("sentences"))
    if given.get("n_clusters") == "auto":
        given["n_clusters"] = None
    return replace(base, **found, **{_RENAMED.get(name, name): value for name, value in given.items()})


def paths_of(paths: Paths) -> tuple[Path, ...]:
    """Give one file or several as paths."""
    return (Path(paths),) if isinstance(paths, str | Path) else tuple(map(Path, paths))


def names_of(names: str | Sequence[str]) -> tuple[str, ...]:
    """Give names that are a list, or text with commas between them."""
    return tuple(part.strip() for part in names.split(",") if part.strip()) if isinstance(names, str) else tuple(names)
