"""The head of systems that learn their centres: each cell to the centre with the largest soft assignment."""

import logging

import numpy as np
import torch

from cellmodel.cluster import order_by_size
from cellmodel.errors import InputUnusable
from cellmodel.losses.clustering import log_soft_assignment
from cellmodel.recipes.base import CellViews, Clustering, Representation

log = logging.getLogger(__name__)


def assignment_head(representation: Representation, views: CellViews, n_clusters: int | None, seed: int) -> Clustering:
    """Cluster of each cell by the centres that were learnt with the representation; nothing is drawn.

    A centre that no cell chose gives no cluster: then fewer are returned, and the log says so.

    Parameters
    ----------
    n_clusters
        None for as many as there are centres.

    Raises
    ------
    InputUnusable
        If the representation has no centres, or not as many as clusters are asked for.
    """
    if representation.centres is None:
        raise InputUnusable(
            "this recipe learns no centres; take --head micro-ward, or another that clusters its features"
        )
    n_centres = len(representation.centres)
    if n_clusters is not None and n_clusters != n_centres:
        raise InputUnusable(
            f"{n_centres} centres were learnt, {n_clusters} clusters are asked for; the two must be equal"
        )
    features, centres = (torch.from_numpy(values) for values in (representation.features, representation.centres))
    nearest = log_soft_assignment(features, centres).argmax(dim=1).numpy()
    labels = order_by_size(nearest)
    n_found = int(labels.max()) + 1
    if n_found < n_centres:
        log.warning("%d of %d learnt centres hold no cell", n_centres - n_found, n_centres)
    return Clustering(labels=np.asarray(labels, dtype=np.int64), n_clusters=representation.n_clusters)
