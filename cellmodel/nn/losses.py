"""Losses between two views of the same cells, and of one embedding against features, counts or the cell graph.

Pure functions of tensors: logits or un-normalized vectors in, logarithms throughout. Only where a docstring says so is
anything dense in cells: neighbors come as edges, other cells as a sample.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cellmodel.nn.modules import sparse_product


def info_nce(
    anchor: Float[Tensor, "cell dim"], positive: Float[Tensor, "cell dim"], *, temperature: float
) -> Float[Tensor, ""]:
    r"""Symmetric InfoNCE between two views of the same cells :cite:`oord2018cpc` (eq. 4), :cite:`radford2021clip`.

    .. math:: -\frac{1}{2n}\sum_i \Big(\log\frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ij}/\tau}}
              + \log\frac{e^{s_{ii}/\tau}}{\sum_j e^{s_{ji}/\tau}}\Big), \quad s_{ij} = \cos(a_i, p_j)

    ``anchor``, ``positive``: the views, not yet normalized; row *i* of both is cell *i*. ``temperature``: :math:`\tau >
    0`, no unit. Mean loss in nats; log(n_cells) when all similarities tie. Raises ``ValueError`` if
    ``temperature`` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    logits = F.normalize(anchor, dim=1) @ F.normalize(positive, dim=1).T / temperature  # (cell, cell)
    same_cell = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, same_cell) + F.cross_entropy(logits.T, same_cell)) / 2


def variance_hinge(view: Float[Tensor, "cell dim"]) -> Float[Tensor, ""]:
    r"""Keep each dimension of a view spread over the cells :cite:`bardes2022vicreg` (eq. 1).

    .. math:: \frac{1}{d}\sum_k \max\big(0, 1 - \sqrt{\mathrm{Var}_k + \epsilon}\big)

    ``view``: un-normalized projections: after L2 normalization the loss could not reach zero.
    """
    deviation = torch.sqrt(view.var(dim=0) + 1e-4)
    return F.relu(1 - deviation).mean()


def sup_con(
    views: Float[Tensor, "view dim"], classes: Int[Tensor, " view"], *, temperature: float
) -> Float[Tensor, ""]:
    r"""Supervised contrastive loss :cite:`khosla2020supcon` (eq. 2): the mean over positives stands outside the log.

    .. math:: -\frac{1}{|A|}\sum_{i \in A} \frac{1}{|P(i)|} \sum_{p \in P(i)}
              \log\frac{e^{s_{ip}/\tau}}{\sum_{a \ne i} e^{s_{ia}/\tau}}, \quad s_{ij} = \cos(v_i, v_j)

    ``views``: one row a view of a cell, not yet normalized; several views of one cell carry its class. ``classes``:
    class of each row. A row whose class no other row has is no anchor, but still pushes others away. ``temperature``:
    :math:`\tau > 0`, no unit. Mean loss in nats over the anchors; 0 where there is none. Raises ``ValueError``
    if ``temperature`` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    unit = F.normalize(views, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    logits = (unit @ unit.T / temperature).masked_fill(itself, float("-inf"))  # (view, view)
    log_share = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    is_positive = (classes[:, None] == classes[None, :]) & ~itself
    n_positives = is_positive.sum(dim=1)
    per_anchor = log_share.masked_fill(~is_positive, 0.0).sum(dim=1) / n_positives.clamp(min=1)
    return -per_anchor.sum() / (n_positives > 0).sum().clamp(min=1)


_RATIO_FLOOR = 1e-3  # nats added to both sides of the neighborhood ratio: 1 where all cells are alike, never 0 / 0


def symmetric_kl(logs: Float[Tensor, "row dim"], other_logs: Float[Tensor, "row dim"]) -> Float[Tensor, " row"]:
    r"""Mean of the two Kullback-Leibler divergences between paired rows of log-probabilities.

    .. math:: \tfrac{1}{2}\big(KL(P \| Q) + KL(Q \| P)\big) = \tfrac{1}{2} \sum_k (p_k - q_k)(\log p_k - \log q_k)

    No term of the right side is negative, so the value is at least 0, and 0 only where the two are equal.
    """
    return ((logs.exp() - other_logs.exp()) * (logs - other_logs)).sum(dim=1) / 2


def distribution_alignment(
    logits: Float[Tensor, "cell dim"], other_logits: Float[Tensor, "cell dim"]
) -> Float[Tensor, ""]:
    """Symmetric divergence between two views: of their mean distributions over all cells, plus the mean over cells.

    Nats, at least 0; 0 where the views' distributions agree in every cell.
    """
    logs, other_logs = F.log_softmax(logits, dim=1), F.log_softmax(other_logits, dim=1)
    log_n = torch.log(torch.full((), float(len(logits)), dtype=logits.dtype, device=logits.device))
    overall, other_overall = (torch.logsumexp(view, dim=0, keepdim=True) - log_n for view in (logs, other_logs))
    return (symmetric_kl(overall, other_overall) + symmetric_kl(logs, other_logs).mean()).squeeze()


def neighborhood_contrast(
    logits: Float[Tensor, "cell dim"],
    other_logits: Float[Tensor, "cell dim"],
    *,
    edges: Int[Tensor, "2 edge"],
    others: Int[Tensor, "cell sample"],
) -> Float[Tensor, ""]:
    r"""How far a cell lies from its neighbors in the other view, as a share of how far it lies from other cells.

    .. math:: \frac{1}{n} \sum_i \frac{\epsilon + \frac{1}{1 + |N_i|} \sum_{j \in N_i \cup \{i\}} D(P_i, Q_j)}
              {\epsilon + \frac{1}{|O_i|} \sum_{j \in O_i} D(P_i, Q_j)}

    with D the symmetric divergence of :func:`symmetric_kl` and a floor of a thousandth of a nat.

    ``edges``: row 0 the cell, row 1 its neighbor; the cell itself is added here. ``others``: a sample of other cells
    for each cell. No unit, above 0; 1 where neighbors are no nearer than others.
    """
    logs, other_logs = F.log_softmax(logits, dim=1), F.log_softmax(other_logits, dim=1)
    n_cells, n_sampled = others.shape
    by_source = edges[:, torch.argsort(edges[0], stable=True)]
    n_linked = torch.bincount(edges[0], minlength=n_cells)
    to_self = symmetric_kl(logs, other_logs)
    near = (to_self + _summed_kl(logs, other_logs, targets=by_source[1], n_targets=n_linked)) / (1 + n_linked)
    n_others = torch.full_like(n_linked, n_sampled)
    far = _summed_kl(logs, other_logs, targets=others.reshape(-1), n_targets=n_others) / n_sampled
    return ((near + _RATIO_FLOOR) / (far + _RATIO_FLOOR)).mean()


def cross_view_consistency(
    view: Float[Tensor, "cell dim"],
    other: Float[Tensor, "cell dim"],
    *,
    edges: Int[Tensor, "2 edge"],
    pairs: Int[Tensor, "2 pair"],
) -> Float[Tensor, ""]:
    r"""Squared error of the cosines between two views against the graph: 1 for a cell and its neighbors, else 0.

    .. math:: \frac{1}{2} \Big( \mathrm{mean}_{(i, j) \in E \cup I} (1 - \cos(u_i, v_j))^2
              + \mathrm{mean}_{(i, j) \in S} \cos(u_i, v_j)^2 \Big)

    The mean over all pairs of cells would be one over the zeros alone; the two kinds count the same here.

    ``edges``: E: row 0 the cell, row 1 its neighbor; each cell with itself is added here. ``pairs``: S: a sample of
    pairs of different cells, in the same layout. No unit, 0 to 2.5.
    """
    units, other_units = F.normalize(view, dim=1), F.normalize(other, dim=1)
    itself = torch.arange(len(view), device=edges.device).expand(2, -1)
    linked = torch.cat([edges, itself], dim=1)
    near, far = ((units[rows] * other_units[columns]).sum(dim=1) for rows, columns in (linked, pairs))
    return ((1 - near).square().mean() + far.square().mean()) / 2


def _summed_kl(
    logs: Float[Tensor, "cell dim"],
    other_logs: Float[Tensor, "cell dim"],
    *,
    targets: Int[Tensor, " target"],
    n_targets: Int[Tensor, " cell"],
) -> Float[Tensor, " cell"]:
    """Sum of a cell's divergences to its targets, from sums over these, so that nothing is held for each pair.

    ``targets`` are listed cell by cell, ``n_targets`` of them for each. Rounding may leave about 1e-6 of either sign
    where all are equal.
    """
    own, other = logs.exp(), other_logs.exp()
    inner = (other * other_logs).sum(dim=1, keepdim=True)
    starts = torch.cumsum(n_targets, dim=0) - n_targets
    table = torch.cat([other, other_logs, inner], dim=1)
    dim = own.shape[1]
    sums = F.embedding_bag(targets, table, starts, mode="sum")
    crossed = own * sums[:, dim : 2 * dim] + logs * sums[:, :dim]
    return (n_targets * (own * logs).sum(dim=1) + sums[:, 2 * dim] - crossed.sum(dim=1)) / 2


def cell_correlation(view: Float[Tensor, "cell dim"], other: Float[Tensor, "cell dim"]) -> Float[Tensor, ""]:
    r"""Squared distance of the cosines between two views of a mini-batch from the identity.

    .. math:: \tfrac{1}{n} \sum_i (C_{ii} - 1)^2 + \tfrac{1}{n^2 - n} \sum_{i \neq j} C_{ij}^2,
              \quad C_{ij} = \cos(u_i, v_j)

    ``view``, ``other``: at least two cells; the matrix is dense in them, so pass a mini-batch. No unit, 0 to 5.
    """
    return _distance_from_identity(F.normalize(view, dim=1) @ F.normalize(other, dim=1).T)


def latent_correlation(
    view: Float[Tensor, "cell dim"],
    other: Float[Tensor, "cell dim"],
    *,
    assignment: Float[Tensor, "cell cluster"],
) -> Float[Tensor, ""]:
    r"""Take the same distance between the dimensions of two views, each read out as its mean in each soft cluster.

    Row *a* of the readout :math:`R = Z^T q / \sum_i q_i` (dim, cluster) is centered and scaled to length one;
    :math:`C = R_u R_v^T`.

    ``assignment``: current soft assignment, rows that sum to one, a constant here. The published code averages
    contiguous rows of the data instead. No unit, 0 to 5.
    """
    weights = assignment / assignment.sum(dim=0)  # (cell, cluster)
    readouts = (z.T @ weights for z in (view, other))
    readout, other_readout = (F.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1) for rows in readouts)
    return _distance_from_identity(readout @ other_readout.T)


def _distance_from_identity(correlation: Float[Tensor, "row row"]) -> Float[Tensor, ""]:
    size = len(correlation)
    diagonal = torch.diagonal(correlation)
    off_diagonal = correlation.square().sum() - diagonal.square().sum()
    return (diagonal - 1).square().mean() + off_diagonal / (size * (size - 1))


def zinb_nll(
    counts: Float[Tensor, "cell gene"],
    *,
    log_mean: Float[Tensor, "cell gene"],
    log_dispersion: Float[Tensor, "cell gene"] | Float[Tensor, " gene"],
    dropout_logits: Float[Tensor, "cell gene"],
    log_size_factors: Float[Tensor, " cell"],
) -> Float[Tensor, ""]:
    r"""Negative log-likelihood of counts under a zero-inflated negative binomial :cite:`eraslan2019dca`.

    .. math:: \pi \delta_0 + (1 - \pi) NB(\mu s_i, \theta), \quad
              NB(x) = \frac{\Gamma(x + \theta)}{\Gamma(\theta) x!}
              \Big(\frac{\theta}{\theta + \mu}\Big)^\theta \Big(\frac{\mu}{\theta + \mu}\Big)^x

    All of it is taken in logarithms (lgamma, softplus, log-sigmoid), so nothing is clipped. scSiameseClu's published
    code puts it on principal components, with a mean that gets no gradient.

    ``counts``: raw, not negative. ``log_mean``, ``log_dispersion``: :math:`\log \mu` of a cell of size factor one, and
    :math:`\log \theta`. ``dropout_logits``: :math:`\pi = \sigma(\cdot)`. ``log_size_factors``: of each cell: log of its
    depth over the mean depth. Mean over cells and genes, in nats.
    """
    log_mu = log_mean + log_size_factors[:, None]
    log_theta = log_dispersion.expand_as(log_mu)
    theta = log_theta.exp()
    log_ratio = log_mu - log_theta
    log_stay = -theta * F.softplus(log_ratio)  # θ log(θ / (θ + μ)): the binomial's own zero
    log_nb = (
        torch.lgamma(counts + theta)
        - torch.lgamma(theta)
        - torch.lgamma(counts + 1)
        + log_stay
        - counts * F.softplus(-log_ratio)
    )
    log_drop, log_keep = F.logsigmoid(dropout_logits), F.logsigmoid(-dropout_logits)
    log_likelihood = torch.where(counts == 0, torch.logaddexp(log_drop, log_keep + log_stay), log_keep + log_nb)
    return -log_likelihood.mean()


def normalized_cut(
    z: Float[Tensor, "cell dim"], propagation: Tensor, *, one_hop: float, orthogonality: float
) -> Float[Tensor, ""]:
    r"""Relaxed normalized cut over the graph and its two-hop, with orthogonal columns :cite:`shi2000ncut`.

    .. math:: -\tfrac{1}{d} \mathrm{tr}(\bar z^T L \bar z) + \tfrac{\eta}{d} \lVert \bar z^T \bar z - I \rVert_F^2,
              \quad L = \omega A + (1 - \omega) A^2

    where the columns of :math:`\bar z` have length one. The square is never formed: it is applied twice.

    ``propagation``: A: sparse, symmetric (cell, cell), weights divided by the square roots of both cells' degrees.
    ``one_hop``: :math:`\omega`, the share of the graph itself. ``orthogonality``: :math:`\eta`, weight of the second
    term. No unit; at least -1, which the leading eigenvector alone attains.
    """
    columns = F.normalize(z, dim=0)
    once = sparse_product(propagation, columns)
    linked = one_hop * once + (1 - one_hop) * sparse_product(propagation, once)
    gram = columns.T @ columns  # (dim, dim)
    identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return (orthogonality * (gram - identity).square().sum() - (columns * linked).sum()) / z.shape[1]


def jensen_shannon(logits: Float[Tensor, "cell dim"], other_logits: Float[Tensor, "cell dim"]) -> Float[Tensor, ""]:
    r"""Mean Jensen-Shannon divergence between the softmax of paired rows :cite:`lin1991divergence` (eq. 4.1).

    .. math:: \tfrac12 KL(P \| M) + \tfrac12 KL(Q \| M), \quad M = (P + Q) / 2

    With an embedding and its propagation over the graph as the rows, this is the propagation regularizer of
    scSiameseClu, whose published code has probabilities where logarithms are due.

    Nats, 0 to log 2.
    """
    log_p, log_q = F.log_softmax(logits, dim=1), F.log_softmax(other_logits, dim=1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum(dim=1).mean() / 2


def edge_reconstruction(
    z: Float[Tensor, "cell dim"], *, edges: Int[Tensor, "2 edge"], others: Int[Tensor, "2 pair"]
) -> Float[Tensor, ""]:
    r"""Squared error of the links :math:`\sigma(z_i \cdot z_j)` read from an embedding: 1 on edges, else 0.

    The two kinds count the same; a mean over all pairs would be one over the zeros alone.

    ``edges``: a sample of the graph's edges. ``others``: a sample of pairs of cells that the graph does not link.
    No unit, 0 to 1.
    """
    linked, unlinked = (torch.sigmoid((z[rows] * z[columns]).sum(dim=1)) for rows, columns in (edges, others))
    return ((1 - linked).square().mean() + unlinked.square().mean()) / 2
