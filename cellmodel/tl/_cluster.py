"""Embed and cluster cells, with a model and a report beside them where these are asked for."""

import logging
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import genekb
from cellmodel.core.config import RunConfig
from cellmodel.core.stages import AnyStages
from cellmodel.io.backed import AnyCells
from cellmodel.io.writers import WriteConfig
from cellmodel.pp.integrate import integration_version
from cellmodel.recipes.registry import plugin_version
from cellmodel.tl._run.pipeline import RunResult, check_settings, run
from cellmodel.tl._run.slots import run_slots, run_values
from cellmodel.tl._run.task import Slot, Task
from cellmodel.tl._run.within import Within, check_within, cluster_within
from cellmodel.tl.model.fitted import check_can_predict, fit_model, save_model

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CellRun:
    """A run, and the cells that it read."""

    cells: AnyCells
    result: RunResult


@dataclass(frozen=True)
class ClusterJob(Task[CellRun]):
    """Embed cells and, unless ``with_clusters`` is false, cluster them, see :func:`cellmodel.tl._run.pipeline.run`.

    ``within``: clusters that are clustered again, see :func:`cellmodel.tl._run.within.cluster_within`.
    """

    kb: genekb.Store | None
    config: RunConfig
    _: KW_ONLY
    with_clusters: bool = True
    within: Within | None = None

    @property
    def stage_key(self) -> Mapping[str, Any]:
        """Settings, store, and versions of plug-ins."""
        return {
            "config": self.config.to_dict(),
            "store": self.kb.store_id if self.kb is not None else "",
            "plug-in": plugin_version(self.config.recipe) | integration_version(self.config.integration),
        }

    @property
    def obsm(self) -> tuple[str, ...]:
        """Coordinates, and an embedding of the user's."""
        return tuple(
            key for key in ("spatial" if self.config.spatial else None, self.config.use_rep) if key is not None
        )

    @property
    def batch_key(self) -> str | None:
        """Column of the batches of the run."""
        return None if self.config.batch is None else self.config.batch.key

    def check(self, write: WriteConfig, *, is_backed: bool) -> None:
        """Refuse settings that do not go together, or with cells that are backed."""
        check_settings(self.config, out_of_core=is_backed)
        if write.model is not None:
            check_can_predict(self.config)
        if self.within is not None:
            check_within(self.config, is_backed=is_backed, saves_model=write.model is not None)

    def slots(self, key_added: str) -> list[Slot]:
        """Embeddings, graph and record, and those of the clusters."""
        return run_slots(key_added, with_clusters=self.with_clusters)

    def compute(self, cells: AnyCells, stages: AnyStages) -> CellRun:
        """Run the pipeline."""
        for note in cells.notes:
            log.info("%s", note)
        given = None
        if self.within is not None:
            given = cluster_within(cells, self.kb, self.config, self.within)
        result = run(cells, self.kb, self.config, with_clusters=self.with_clusters, given=given, stages=stages)
        return CellRun(cells=cells, result=result)

    def values(self, cells: AnyCells, result: CellRun, key_added: str) -> dict[Slot, Any]:
        """Values of the slots."""
        return run_values(cells, result.result, key_added)

    def write_beside(self, cells: AnyCells, result: CellRun, write: WriteConfig) -> None:
        """Write the model and the report."""
        if write.model is not None:
            save_model(fit_model(cells, result.result), write.model, overwrite=write.overwrite)
        if write.report is not None:
            from cellmodel.pl.report.write import write_report_of

            write_report_of(cells, write.report, cluster_key=write.key_added, overwrite=write.overwrite)
