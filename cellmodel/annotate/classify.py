"""Classes of cells from labeled ones: features in, a class and a confidence for every cell out.

Follows the low-sample contrastive classifier (arXiv 2509.23543), corrected: whatever is fitted to labels is fitted to
the labeled cells alone. The contrastive step is an option, since it was not measured to help with a handful of labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from jaxtyping import Float, Int

from cellmodel.core import random as seeding
from cellmodel.core.arrays import Embedding, unit_rows
from cellmodel.core.config import check_device
from cellmodel.core.errors import InputUnusable
from cellmodel.core.random import generator
from cellmodel.nn.train import find_device

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cellmodel.nn.train import Batch

Head = Literal["centroid", "knn", "logistic"]
Contrast = Literal["none", "supervised", "self"]
TEMPERATURE: Final = 0.1
NOISE: Final = 0.3  # standard deviation of the noise that makes a second view, in units of the features' own
USUAL_ODDS: Final = 10.0  # of the nearest centroid against the next, for a cell of median difference
STRENGTH: Final = 10.0  # of logistic regression, the inverse of its penalty, on cells of mean squared length 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyConfig:
    """How cells are classified; one set of values serves every data set."""

    head: Head = "logistic"  # nearest centroid, nearest neighbors, or logistic regression
    # contrastive projection of the features first, fitted with the labels of the labeled cells (``supervised``) or to
    # all cells without labels (``self``)
    contrast: Contrast = "none"
    n_neighbors: int = 5  # for ``knn``; at most as many as the smallest class has cells
    # confidence below which a cell is left without a class; None: no cell is, but label transfer then finds the limit
    # from the reference (:func:`cellmodel.annotate.label_transfer.held_out_limit`)
    unassigned_below: float | None = 0.0
    device: str = field(default="cpu", compare=False)  # where the projection is trained: auto, cpu, cuda or cuda:N

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_device(self.device)
        if self.n_neighbors < 1:
            raise ValueError(f"n_neighbors must be >= 1, got {self.n_neighbors}")
        if self.unassigned_below is not None and not 0 <= self.unassigned_below <= 1:
            raise ValueError(f"unassigned_below must lie in [0, 1], got {self.unassigned_below}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What was found for every cell."""

    classes: Int[np.ndarray, " cell"]  # (cell,) the likeliest class; -1 where its probability is below the limit
    probabilities: Float[np.ndarray, "cell class"]  # (cell, class) that sum to 1 over the classes

    @property
    def confidence(self) -> Float[np.ndarray, " cell"]:
        """Probability of the likeliest class."""
        return np.asarray(self.probabilities.max(axis=1))


def classify_cells(
    features: Embedding,
    *,
    labeled: Int[np.ndarray, " labeled"],
    classes: Int[np.ndarray, " labeled"],
    config: ClassifyConfig,
    seed: int,
) -> Prediction:
    """Classify all cells from those that are labeled; ``features``: (cell, dim) of all cells, made without labels.

    ``classes``: of the rows ``labeled``, 0 .. k-1, each at least once.
    """
    sizes = np.bincount(classes) if len(classes) else np.zeros(0, dtype=np.int64)
    if len(sizes) < 2:  # noqa: PLR2004 - one class leaves nothing to classify
        raise InputUnusable(f"the labeled cells have {len(sizes)} class, 2 are needed; is the label column right?")
    if not sizes.all():
        raise ValueError(f"classes must be 0 .. {len(sizes) - 1} without gaps; none is {int(np.argmin(sizes))}")
    if config.contrast != "none":
        known = {"labeled": labeled, "classes": classes} if config.contrast == "supervised" else {}
        features = contrastive_features(features, **known, seed=seed, device=config.device)
    probabilities = _HEADS[config.head](features, labeled, classes, config)
    found = probabilities.argmax(axis=1)
    found[probabilities.max(axis=1) < (config.unassigned_below or 0.0)] = -1
    return Prediction(classes=found, probabilities=probabilities)


def weigh_by_separation(
    features: Embedding, *, labeled: Int[np.ndarray, " labeled"], classes: Int[np.ndarray, " labeled"]
) -> Embedding:
    r"""Weigh each feature by how well it separates the classes of the labeled cells; rows become of length one.

    The weight is :math:`\eta = \sqrt{B / (B + W)}`, the correlation ratio, with *B* the variance of the class means
    and *W* the mean variance within classes, each class counted once.
    """
    groups = [features[labeled[classes == one]] for one in range(int(classes.max()) + 1)]
    between = np.stack([group.mean(axis=0) for group in groups]).var(axis=0)
    within = np.stack([group.var(axis=0) for group in groups]).mean(axis=0)
    total = between + within
    ratio = np.divide(between, total, out=np.zeros_like(total), where=total > 0)
    return unit_rows(features * np.sqrt(ratio).astype(features.dtype))


def _by_centroid(
    features: Embedding, labeled: np.ndarray, classes: np.ndarray, config: ClassifyConfig
) -> Float[np.ndarray, "cell class"]:
    """Softmax of squared distances, in units of the median difference between the nearest two centroids."""
    from scipy.spatial.distance import cdist
    from scipy.special import softmax

    n_classes = int(classes.max()) + 1
    centroids = np.stack([features[labeled[classes == one]].mean(axis=0) for one in range(n_classes)])
    squared = cdist(features, centroids, "sqeuclidean")
    two = np.partition(squared, 1, axis=1)
    difference = max(float(np.median(two[:, 1] - two[:, 0])), 1e-12)
    return np.asarray(softmax(-np.log(USUAL_ODDS) * squared / difference, axis=1))


def _by_neighbors(
    features: Embedding, labeled: np.ndarray, classes: np.ndarray, config: ClassifyConfig
) -> Float[np.ndarray, "cell class"]:
    """Fraction of the nearest labeled cells; the nearest decides between equal fractions."""
    from scipy.spatial.distance import cdist

    n_neighbors = min(config.n_neighbors, int(np.bincount(classes).min()))
    squared = cdist(features, features[labeled], "sqeuclidean")
    nearest = np.argsort(squared, axis=1, kind="stable")[:, :n_neighbors]
    votes = np.zeros((len(features), int(classes.max()) + 1))
    weights = 1 + 1e-3 * np.arange(n_neighbors)[::-1]
    np.add.at(votes, (np.arange(len(features))[:, None], classes[nearest]), weights)
    return votes / votes.sum(axis=1, keepdims=True)


def _by_logistic(
    features: Embedding, labeled: np.ndarray, classes: np.ndarray, config: ClassifyConfig
) -> Float[np.ndarray, "cell class"]:
    """Multinomial logistic regression with balanced classes, on features brought to one scale."""
    from sklearn.linear_model import LogisticRegression

    scaled = features - features[labeled].mean(axis=0)
    scaled = scaled / max(float(np.sqrt((scaled**2).sum(axis=1).mean())), 1e-12)
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=2000).fit(scaled[labeled], classes)
    return np.asarray(model.predict_proba(scaled), dtype=np.float64)


_HEADS: Final = {"centroid": _by_centroid, "knn": _by_neighbors, "logistic": _by_logistic}


def contrastive_features(
    features: Embedding,
    *,
    labeled: Int[np.ndarray, " labeled"] | None = None,
    classes: Int[np.ndarray, " labeled"] | None = None,
    seed: int,
    device: str = "cpu",
) -> Embedding:
    """Project features by contrast, with labels (Khosla 2020, arXiv 2004.11362) or without (SimCLR, arXiv 2002.05709).

    With ``classes``, the projection is fitted to the labeled cells alone. Returns all cells, rows of length one.
    """
    import torch

    from cellmodel.nn.losses import info_nce, sup_con
    from cellmodel.nn.modules import Projector
    from cellmodel.nn.train import TrainConfig, fit

    centered = features - features.mean(axis=0)
    one_scale = centered / max(float(centered.std()), 1e-12)  # one factor: directions keep their relative length
    scaled = torch.from_numpy(np.ascontiguousarray(one_scale, dtype=np.float32)).to(find_device(device))
    noise = torch.Generator().manual_seed(seeding.derive(seed, "views"))

    def objective(model: "nn.Module", batch: "Batch") -> dict[str, "Tensor"]:
        cells = batch["features"]
        views = [model(cells + NOISE * torch.randn(cells.shape, generator=noise).to(cells.device)) for _ in range(2)]
        if "classes" in batch:
            both = torch.cat([batch["classes"], batch["classes"]])
            return {"contrast": sup_con(torch.cat(views), both, temperature=TEMPERATURE)}
        return {"contrast": info_nce(views[0], views[1], temperature=TEMPERATURE)}

    training = {"features": scaled}
    if labeled is not None and classes is not None:
        of_labeled = scaled[torch.from_numpy(labeled).to(scaled.device)]
        training = {"features": of_labeled, "classes": torch.from_numpy(classes)}
    with seeding.scope(seed):
        model = Projector(dim=scaled.shape[1]).to(scaled.device)
        config = TrainConfig(n_steps=200, batch_size=256)
        fit(model, objective, views=training, config=config, rng=seeding.generator(seed, "batches"))
    with torch.inference_mode():
        return unit_rows(model(scaled).cpu().numpy())


Rows = Int[np.ndarray, " cell"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One draw: cells whose label is seen, and cells that are classified."""

    n_shot: int  # labeled cells a class; 0 for a stratified split
    draw: int  # number of the draw
    train: Rows  # train, test: row numbers in rising order, disjoint
    test: Rows


def n_shot_splits(
    classes: Int[np.ndarray, " cell"], *, n_shots: Sequence[int], n_draws: int, seed: int
) -> Iterator[Split]:
    """Draw a few labeled cells a class; all other cells are classified.

    A class with too few cells gives all but one; a class of one cell is left out.
    """
    if n_draws < 1 or any(n_shot < 1 for n_shot in n_shots):
        raise ValueError(f"shots and draws must be >= 1, got {list(n_shots)} and {n_draws}")
    usable = _usable_classes(classes)
    for n_shot in n_shots:
        for draw in range(n_draws):
            rng = generator(seed, f"{n_shot}-shot draw {draw}")
            train, test = _split_classes(classes, usable, np.minimum(n_shot, np.bincount(classes)[usable] - 1), rng)
            yield Split(n_shot=n_shot, draw=draw, train=train, test=test)


def stratified_splits(
    classes: Int[np.ndarray, " cell"], *, share_test: float, n_draws: int, seed: int
) -> Iterator[Split]:
    """Split every class in the same proportion, repeatedly; a class of one cell is left out."""
    if not 0 < share_test < 1 or n_draws < 1:
        raise ValueError(f"share_test must lie between 0 and 1 and n_draws be >= 1, got {share_test} and {n_draws}")
    usable = _usable_classes(classes)
    sizes = np.bincount(classes)[usable]
    n_test = np.clip(np.rint(share_test * sizes).astype(np.int64), 1, sizes - 1)
    for draw in range(n_draws):
        rng = generator(seed, f"stratified draw {draw}")
        test, train = _split_classes(classes, usable, n_test, rng)
        yield Split(n_shot=0, draw=draw, train=train, test=test)


def _split_classes(
    classes: Int[np.ndarray, " cell"],
    usable: Int[np.ndarray, " class"],
    n_first: Int[np.ndarray, " class"],
    rng: np.random.Generator,
) -> tuple[Rows, Rows]:
    """Permute the cells of each class; ``n_first`` of them go to the first rows, the others to the second."""
    rows = [rng.permutation(np.flatnonzero(classes == one)) for one in usable]
    parts = zip(*(np.split(of_class, [n]) for of_class, n in zip(rows, n_first, strict=True)), strict=True)
    first, second = (np.sort(np.concatenate(part)) for part in parts)
    return first, second


def _usable_classes(classes: Int[np.ndarray, " cell"]) -> Int[np.ndarray, " class"]:
    """Classes with a cell to learn from and a cell to test on; at least two."""
    usable = np.flatnonzero(np.bincount(classes) > 1)
    if len(usable) < 2:  # noqa: PLR2004 - one class leaves nothing to classify
        raise InputUnusable(
            f"{len(usable)} classes have more than one cell, 2 are needed: a cell to learn from, a cell to test on; is "
            "the label column right?"
        )
    return usable
