"""Our embedding in cz-benchmarks' own tasks; where both define a metric, it gives what `cellmodel eval` gives."""

import json
from pathlib import Path

import anndata
import numpy as np
from czbenchmarks.datasets.types import Organism
from czbenchmarks.metrics import metrics_registry
from czbenchmarks.metrics.types import MetricType
from czbenchmarks.tasks import BatchIntegrationTask, ClusteringTask, EmbeddingTask
from czbenchmarks.tasks.clustering import ClusteringTaskInput
from czbenchmarks.tasks.embedding import EmbeddingTaskInput
from czbenchmarks.tasks.integration import BatchIntegrationTaskInput
from czbenchmarks.tasks.single_cell import CrossSpeciesIntegrationTask
from czbenchmarks.tasks.single_cell.cross_species_integration import CrossSpeciesIntegrationTaskInput

ORGANISMS = {"human": Organism.HUMAN, "mouse": Organism.MOUSE}


def values(results: list) -> dict[str, float]:
    return {result.metric_type.value: float(result.value) for result in results}


batches = anndata.read_h5ad("integrated.h5ad")
z, labels = np.asarray(batches.obsm["X_cellmodel"]), batches.obs["cell_type"]
found = values(ClusteringTask().run(z, ClusteringTaskInput(obs=batches.obs, input_labels=labels)))
found |= values(EmbeddingTask().run(z, EmbeddingTaskInput(input_labels=labels)))
by_batch = BatchIntegrationTaskInput(batch_labels=batches.obs["batch"], labels=labels)
found |= values(BatchIntegrationTask().run(z, by_batch))
species = anndata.read_h5ad("across.h5ad")
parts = [species[species.obs["species"] == name] for name in ORGANISMS]
across = CrossSpeciesIntegrationTaskInput(
    labels=[part.obs["cell_type"].to_numpy() for part in parts], organism_list=list(ORGANISMS.values())
)
apart = values(CrossSpeciesIntegrationTask().run([np.asarray(part.obsm["X_cellmodel"]) for part in parts], across))
ours = json.loads(Path("eval.json").read_text())
own = next(row for row in ours["integration"] if row["embedding"] == "X_cellmodel")
assert found["silhouette_score"] == own["silhouette_label"]
for name, metric in (("ari", MetricType.ADJUSTED_RAND_INDEX), ("nmi", MetricType.NORMALIZED_MUTUAL_INFO)):
    same = metrics_registry.compute(metric, labels_true=labels, labels_pred=batches.obs["cellmodel"])
    assert abs(same - ours[name]) < 1e-9
did = f"clusters' ARI and NMI and the silhouette, {found['silhouette_score']:.3f}, as by `cellmodel eval`"
did += f"; its Leiden has ARI {found['adjusted_rand_index']:.2f}, our clusters {ours['ari']:.2f}"
did += f"; batch silhouette {found['batch_silhouette']:.2f}, entropy {found['entropy_per_cell']:.2f}"
did += f"; across species {apart['batch_silhouette']:.2f}, {apart['entropy_per_cell']:.2f}"
print(did)  # noqa: T201
