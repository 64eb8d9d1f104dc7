"""Self-training of clusters: a soft assignment to learned centers, its target, and the divergence between."""

import math
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_CURVATURE_FLOOR: Final = 1e-9  # of the dual, a cell
_LONGEST_STEP: Final = 10.0  # nats; where the dual is flat, Newton's own step has no bound
_HALVINGS: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A target assignment, and how far the solver came."""

    p: Float[Tensor, "cell cluster"]  # (cell, cluster) rows that sum to one
    error: float  # largest difference of a column's sum from its mass, as a share of the number of cells
    n_iterations: int  # iterations that were made
    converged: bool  # whether ``error`` is within the tolerance


def log_soft_assignment(
    z: Float[Tensor, "cell dim"], centers: Float[Tensor, "cluster dim"], *, scale: float = 1.0
) -> Float[Tensor, "cell cluster"]:
    r"""Logarithm of the Student-t assignment, one degree of freedom :cite:`vandermaaten2008tsne`, :cite:`xie2016dec`.

    .. math:: q_{ic} \propto (1 + \lVert z_i - \mu_c \rVert^2 / \sigma^2)^{-1}

    ``scale``: :math:`\sigma > 0`, a typical distance of a cell from its center. The largest assignment does not depend
    on it, but far below it all assignments tend to 1 / k. Published is 1, whatever the scale of the embedding.
    """
    squared = z.square().sum(dim=1, keepdim=True) + centers.square().sum(dim=1) - 2 * z @ centers.T
    return F.log_softmax(-torch.log1p(F.relu(squared) / scale**2), dim=1)


def assignment_divergence(p: Float[Tensor, "cell cluster"], log_q: Float[Tensor, "cell cluster"]) -> Float[Tensor, ""]:
    r"""Divergence :math:`KL(P \| Q) = \tfrac{1}{n} \sum p \log(p / q)` of the assignment from its target.

    The published systems pass probabilities where logarithms are due, which makes it negative.

    ``p``: the target, rows that sum to one; zeros are allowed. ``log_q``: as :func:`log_soft_assignment` gives it.
    Returns nats a cell, at least 0; 0 where the two are equal.
    """
    return F.kl_div(log_q, p, reduction="batchmean")


def cluster_masses(log_q: Float[Tensor, "cell cluster"], *, smoothing: float) -> Float[Tensor, " cluster"]:
    r"""Sizes of the current clusters, shrunk towards equal ones: :math:`(1 - s) n_c + s n / k`.

    A cell counts for its largest assignment alone: the mean of soft assignments is nearly equal for all clusters.

    ``smoothing``: s in (0, 1]: near 0 keeps the clusters as they are, 1 makes them equal. Returns positive masses that
    sum to the number of cells.
    """
    n_cells, n_clusters = log_q.shape
    sizes = torch.bincount(log_q.argmax(dim=1), minlength=n_clusters).to(log_q.dtype)
    return (1 - smoothing) * sizes + smoothing * n_cells / n_clusters


@torch.no_grad()
def sinkhorn_target(
    log_q: Float[Tensor, "cell cluster"],
    masses: Float[Tensor, " cluster"],
    *,
    sharpness: float,
    tolerance: float = 1e-4,
    n_iterations: int = 500,
) -> Target:
    r"""Target assignment by optimal transport: :math:`q^s` scaled to rows of one and given column sums.

    It is the plan with entropic regularization 1/s of the cost :math:`-\log q` :cite:`cuturi2013sinkhorn`, in the log
    domain, so that a sharp assignment cannot underflow. Newton steps of bounded length on the dual, which has one
    unknown a cluster, find it in ten to forty iterations; Sinkhorn's own scaling of the columns takes hundreds where
    clusters lie apart, and only steps in where rounding stops Newton's.

    ``masses``: wanted sum of each column; they sum to the number of cells. ``sharpness``: s, the power. ``tolerance``:
    difference of a column's sum from its mass, as a share of the number of cells, at which the solver stops.
    ``n_iterations``: at most so many steps. Raises ``ValueError`` if a mass is not positive, or the masses do not sum
    to the number of cells.
    """
    n_cells = len(log_q)
    if float(masses.min()) <= 0 or not math.isclose(float(masses.sum()), n_cells, rel_tol=1e-4):
        raise ValueError(f"masses must be > 0 and sum to {n_cells} (the number of cells), got {masses.tolist()}")
    scores = sharpness * log_q.double()
    wanted = masses.double() * (n_cells / masses.double().sum())
    columns = torch.zeros_like(wanted)
    error, iteration = math.inf, 0
    for iteration in range(1, n_iterations + 1):  # noqa: B007 - how far it came is part of the result
        p = F.softmax(scores + columns, dim=1)  # rows sum to one
        error = float((p.sum(dim=0) - wanted).abs().max()) / n_cells
        if error <= tolerance:
            break
        columns = _dual_step(scores, columns, wanted, p)
    return Target(p=p.to(log_q.dtype), error=error, n_iterations=iteration, converged=error <= tolerance)


def _dual_step(scores: Tensor, columns: Tensor, masses: Tensor, p: Tensor) -> Tensor:
    """Climb the dual of the transport problem: a Newton step, halved at need, else a scaling of the columns."""

    def dual(values: Tensor) -> float:
        return float(masses @ values - torch.logsumexp(scores + values, dim=1).sum())

    slope = masses - p.sum(dim=0)
    curvature = torch.diag(p.sum(dim=0)) - p.T @ p
    floor = _CURVATURE_FLOOR * len(p) * torch.eye(len(masses)).to(p)  # a shift of all columns changes nothing
    step = torch.linalg.solve(curvature + floor, slope)
    step = step * (_LONGEST_STEP / max(float(step.abs().max()), _LONGEST_STEP))
    now, gain = dual(columns), float(slope @ step)
    for _ in range(_HALVINGS):
        if dual(columns + step) >= now + 0.1 * gain:
            return columns + step
        step, gain = step / 2, gain / 2
    return columns + masses.log() - torch.logsumexp(F.log_softmax(scores + columns, dim=1), dim=0)
