"""Explain what sets clusters apart: markers, contributions of genes, themes and enriched gene sets."""

from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import Any

import genekb
from cellmodel.core.config import RunConfig
from cellmodel.core.stages import AnyStages
from cellmodel.explain.evidence import (
    AttributeConfig,
    Evidence,
    attribute_clusters,
    evidence_frames,
    table_targets,
    write_tables,
)
from cellmodel.explain.groups import ClusteredCells, clustered
from cellmodel.explain.samples.contrasts import SampleContrasts, sample_contrasts
from cellmodel.explain.samples.markers import markers_of, sampled_cells
from cellmodel.io.cells import Cells
from cellmodel.io.records import check_lineage, lineage_record
from cellmodel.io.writers import WriteConfig
from cellmodel.tl._run.task import Slot, Task
from genekb.core.plugins import installed_version
from genekb.files.replace import Target


@dataclass(frozen=True)
class AttributeJob(Task[Evidence]):
    """Explain what sets clusters apart, see :func:`cellmodel.explain.evidence.attribute_clusters`.

    ``tables``: folder for ``markers.tsv``, ``contributions.tsv``, ``themes.tsv``, ``names.tsv`` and ``enrichment.tsv``;
    made if missing.
    """

    kb: genekb.Store
    config: RunConfig
    _: KW_ONLY
    choice: AttributeConfig
    tables: Path | None = None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files of gene sets."""
        return self.choice.gmt

    @property
    def targets(self) -> tuple[Target, ...]:
        """The tables."""
        return tuple(table_targets(self.tables)) if self.tables else ()

    def slots(self, key_added: str) -> list[Slot]:
        """Record and tables."""
        return [("uns", key_added)]

    def compute(self, cells: Cells, stages: AnyStages) -> Evidence:
        """Compare the clusters, or conditions inside them."""
        choice, kb, config = self.choice, self.kb, self.config
        made_with = check_lineage(cells, kb, config, key=choice.cluster_key, other_store=choice.other_store)
        found = clustered(cells, kb, config, cluster_key=choice.cluster_key)
        evidence = attribute_clusters(found, kb, config=config, choice=choice, samples=self._samples(cells, found))
        return replace(evidence, made_with=made_with)

    def _samples(self, cells: Cells, found: ClusteredCells) -> SampleContrasts | None:
        """Compare samples, where these are the replicates."""
        choice = self.choice
        if choice.samples is None:
            return None
        sampled = sampled_cells(cells, choice.samples)
        tested = markers_of(sampled, choice.samples)
        return sample_contrasts(
            found, sampled, tested.tests, cluster=choice.cluster, n_top=choice.n_markers, notes=tested.notes
        )

    def values(self, cells: Cells, result: Evidence, key_added: str) -> dict[Slot, Any]:
        """Give settings, lineage, notes and tables."""
        record: dict[str, Any] = {
            "params": asdict(self.choice) | {"gmt": [path.name for path in self.choice.gmt]},
            "seed": self.config.seed,
            "versions": {name: installed_version(name) for name in ("genekb-cellmodel", "numpy", "scipy")},
            **asdict(result.lineage),
            **lineage_record(result.made_with),
            "gene_sets": result.sources,
            "notes": list(result.notes),
        }
        return {("uns", key_added): record | evidence_frames(result)}

    def write_beside(self, cells: Cells, result: Evidence, write: WriteConfig) -> None:
        """Write the tables."""
        if self.tables is not None:
            write_tables(result, self.tables, overwrite=write.overwrite)


def attribution_slot(condition_key: str | None) -> str:
    """Name the slot of an attribution, where the user names none; that of conditions stands beside that of clusters."""
    return "cellmodel_attribution" if condition_key is None else "cellmodel_attribution_conditions"
