"""Labels of a reference, or clusters of a fitted model, for new cells."""

import logging
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import genekb
from cellmodel.annotate.cell_types import UNASSIGNED
from cellmodel.annotate.classify import ClassifyConfig, Contrast, Head
from cellmodel.annotate.label_transfer import Transfer, TransferConfig, transfer_labels
from cellmodel.annotate.shared_genes import GenesBy
from cellmodel.core.config import BatchConfig, RunConfig
from cellmodel.core.stages import AnyStages
from cellmodel.core.tools import Kb, forwards_to, open_kb, tool
from cellmodel.io.cells import Cells, ReadConfig, cells_from_anndata, read_cells
from cellmodel.io.records import input_record, lineage_record
from cellmodel.nn.train import find_device
from cellmodel.tl._cluster import VALUES, cluster, split_settings
from cellmodel.tl._run.files import CellFiles, run_task
from cellmodel.tl._run.slots import embedding_slots, embedding_values, named_categories
from cellmodel.tl._run.task import Slot, Task
from cellmodel.tl.model.fitted import FittedModel, Predicted, check_store, load_model
from cellmodel.tl.model.fitted import predict as predict_cells

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransferJob(Task[Transfer]):
    """Transfer labels of a reference, see :func:`cellmodel.annotate.label_transfer.transfer_labels`.

    ``read``: where the values and the gene names of a reference in a file are.
    """

    kb: genekb.Store
    config: RunConfig
    _: KW_ONLY
    reference: Path | Cells
    transfer: TransferConfig
    read: ReadConfig = field(default_factory=ReadConfig)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """File of the reference."""
        return (self.reference,) if isinstance(self.reference, Path) else ()

    def slots(self, key_added: str) -> list[Slot]:
        """Labels, their confidence and probabilities, and the record."""
        columns = [("obs", key_added), ("obs", f"{key_added}_confidence")]
        return [*columns, ("obsm", f"{key_added}_probabilities"), ("uns", key_added)]

    def compute(self, cells: Cells, stages: AnyStages) -> Transfer:
        """Read the reference, and transfer its labels."""
        reference = self.reference
        labeled = read_cells(reference, self.read) if isinstance(reference, Path) else reference
        for each in (cells, labeled):
            for note in each.notes:
                log.info("%s: %s", each.source, note)
        return transfer_labels(cells, labeled, self.kb, self.config, transfer=self.transfer)

    def values(self, cells: Cells, result: Transfer, key_added: str) -> dict[Slot, Any]:
        """Labels and figures of the cells, and what they were made with."""
        import pandas as pd

        figures = result.prediction
        return {
            ("obs", key_added): pd.Categorical(result.labels, categories=[*result.names, UNASSIGNED]),
            ("obs", f"{key_added}_confidence"): figures.confidence.astype(np.float32),
            ("obsm", f"{key_added}_probabilities"): figures.probabilities.astype(np.float32),
            ("uns", key_added): _record(cells, result),
        }


def _record(cells: Cells, found: Transfer) -> dict[str, Any]:
    import pandas as pd

    counts, settings = found.n_query, asdict(found.transfer)
    genes_by = settings["meeting"] = settings.pop("genes_by")  # as files have named it from the first
    return {
        "params": {"run": found.config.to_dict(), "transfer": settings},
        "seed": found.config.seed,
        **asdict(found.lineage),
        **lineage_record(found.made_with),
        "reference": found.reference,
        "classes": list(found.names),
        "counts": pd.DataFrame(
            {"class": list(counts), "n_reference": [*found.n_reference, 0], "n_query": list(counts.values())}
        ),
        "n_unlabeled": found.n_unlabeled,
        "unassigned_below": found.limit,
        "genes": {"meeting": genes_by, "n_genes": found.n_genes, "note": found.note},
        "input": input_record(cells)["input"],
    }


@tool
@forwards_to(
    cluster, "n_clusters", "resolution", "within", "recipe", "use_rep", "spatial", "save_model", "report", "sentences",
    "low_data", "smooth_labels", "min_counts", "min_genes", "max_mito", "doublets",
)  # fmt: skip
def classify(
    adata: "AnnData | CellFiles",
    reference: "AnnData | str | Path",
    kb: Kb,
    *,
    label_key: str,
    genes_by: GenesBy = "ids",
    head: Head = "logistic",
    contrastive: Contrast = "none",
    unassigned_below: float | None = None,
    classifier: ClassifyConfig | None = None,
    batch_key: str | BatchConfig | None = None,
    key_added: str = "cellmodel_class",
    other_store: bool = False,
    **settings: Any,
) -> "AnnData | Transfer | None":
    """Transfer labels of a reference to cells, of the same species or of another.

    Adds the categorical ``obs["<key>"]``, in which cells of low confidence are ``unassigned``,
    ``obs["<key>_confidence"]``, ``obsm["<key>_probabilities"]`` and ``uns["<key>"]``, whose ``classes`` name the
    columns of the probabilities. The reference is left as it is.

    From the shell: ``cellmodel classify``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory, backed, or `CellFiles`.
    reference
        Labeled cells, or a file of them; those without a label are left out and counted.
    kb
        Store: its name, such as ``human``, its folder, or opened.
    label_key
        Column of its obs with the labels.
    genes_by
        Genes of the two sides are matched by GeneID, by orthologue, or by the text of the genes.
    head
        ``logistic`` regression, nearest ``centroid``, or ``knn``.
    contrastive
        Contrastive projection before it: ``none``, ``supervised`` or ``self``.
    unassigned_below
        Confidence below which a cell is unassigned; found from the reference if None.
    classifier
        All of these, and what else can be set; they are not looked at then.
    batch_key
        Column of obs, of the reference, of the cells or of both, with the batch of each cell; genes are scaled within
        batches, and the graph over which cells are averaged is integrated.
    key_added
        Name of the slots.
    other_store
        Whether the clusters or labels may be of another store or encoder; both are recorded then.
    settings
        Arguments of :func:`cluster`: encoder, batches, where the values are, and the like; ``device`` trains a
        projection.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, LineageMismatch, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> new, reference = anndata.read_h5ad("cells.h5ad"), anndata.read_h5ad("cells.h5ad")
    >>> cm.tl.classify(new, reference, "demo", label_key="label", unassigned_below=0)
    >>> sorted(set(new.obs["cellmodel_class"]))
    ['B cell', 'T cell']
    """
    config, read, slots = split_settings(settings | {"key_added": key_added, "batch_key": batch_key})
    how = classifier or ClassifyConfig(
        head=head, contrast=contrastive, unassigned_below=unassigned_below, device=config.device
    )
    if how.contrast != "none":
        find_device(how.device)  # else it would be missed after most of the work
    transfer = TransferConfig(label_key=label_key, genes_by=genes_by, classify=how, other_store=other_store)
    labeled: Path | Cells = (
        Path(reference)
        if isinstance(reference, str | Path)
        else cells_from_anndata(reference, read, source="reference in memory")
    )
    task = TransferJob(open_kb(kb), config, reference=labeled, transfer=transfer, read=read)
    return run_task(adata, task, read, **slots)


@dataclass(frozen=True)
class PredictJob(Task[Predicted]):
    """Embed new cells and give each a cluster of a model that was read from a folder.

    ``digest``: identifies model, input and settings; kept in the record.
    """

    model: FittedModel
    kb: genekb.Store | None
    _: KW_ONLY
    folder: Path
    new_batch_key: str | None = None  # column of obs with the batches of the new cells
    digest: str = ""

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Folder of the model."""
        return (self.folder,)

    def check(self, *, is_backed: bool) -> None:
        """Refuse a store that is not the model's."""
        check_store(self.model, self.kb)

    def slots(self, key_added: str) -> list[Slot]:
        """Clusters, embeddings and record."""
        columns = [("obs", key_added), ("obs", f"{key_added}_confidence")]
        return [*columns, *embedding_slots(key_added), ("uns", key_added)]

    def compute(self, cells: Cells, stages: AnyStages) -> Predicted:
        """Place the cells among those of the model."""
        return predict_cells(self.model, cells, self.kb, batch_key=self.new_batch_key)

    def values(self, cells: Cells, result: Predicted, key_added: str) -> dict[Slot, Any]:
        """Clusters, embeddings, and what they were made with."""
        model = self.model
        record = {
            "params": model.config.to_dict(),
            "recipe": model.config.recipe_name,
            "seed": model.config.seed,
            **asdict(model.lineage),
            "share_genes": result.share_genes,
            "n_fitted_cells": len(model.labels),
            "input": input_record(cells)["input"],
            **({"digest": self.digest} if self.digest else {}),
        }
        names = [str(cluster) for cluster in range(int(model.labels.max()) + 1)]
        return {
            ("obs", key_added): named_categories(result.labels, names),
            ("obs", f"{key_added}_confidence"): result.confidence.astype(np.float32),
            **embedding_values(result.representation, key_added),
            ("uns", key_added): record,
        }


@tool
@forwards_to(cluster, only=VALUES)
def predict(
    adata: "AnnData | CellFiles",
    model: str | Path | FittedModel,
    kb: Kb | None = None,
    *,
    batch_key: str | None = None,
    key_added: str = "cellmodel",
    **settings: Any,
) -> "AnnData | Predicted | None":
    """Embed new cells with a fitted model, and give each the cluster of the fitted cells around it.

    Adds ``obs["<key>"]``, ``obs["<key>_confidence"]``, the embeddings ``obsm["X_<key>"]``, ``_expr``, ``_text`` and
    ``_joint``, and ``uns["<key>"]``.

    From the shell: ``cellmodel predict``.

    Parameters
    ----------
    adata
        Counts or log-normalized expression; genes by any of their names; in memory, backed, or `CellFiles`.
    model
        Folder that ``cm.tl.cluster(..., save_model=...)`` wrote.
    kb
        Store that the model was fitted with; None for a model without one.
    batch_key
        Column of obs with the new cells' batches, for a model of batches; one batch if None.
    key_added
        Name of the slots.
    settings
        Arguments of :func:`cluster`: where the values are, ``overwrite`` and ``copy``.

    Raises
    ------
    InputUnusable, NotCounts, AlignmentTooLow, SlotTaken
        See :mod:`cellmodel.core.errors`.

    Examples
    --------
    >>> import anndata, cellmodel as cm
    >>> adata, new = anndata.read_h5ad("clustered.h5ad"), anndata.read_h5ad("cells.h5ad")
    >>> cm.tl.predict(new, "model", "demo")
    >>> bool((new.obs["cellmodel"].astype(str) == adata.obs["cellmodel"].astype(str)).mean() > 0.9)
    True
    """
    folder = Path() if isinstance(model, FittedModel) else Path(model)
    fitted = model if isinstance(model, FittedModel) else load_model(folder)
    task = PredictJob(fitted, open_kb(kb), folder=folder, new_batch_key=batch_key)
    _, read, slots = split_settings(settings | {"key_added": key_added})
    return run_task(adata, task, read, **slots)
