"""How well classes are found from few labeled cells: the n-shot protocol on one labeled file."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

import numpy as np
from jaxtyping import Float, Int

import genekb
from cellmodel.annotate.cell_types import UNASSIGNED
from cellmodel.annotate.classify import (
    ClassifyConfig,
    Split,
    classify_cells,
    contrastive_features,
    n_shot_splits,
    stratified_splits,
)
from cellmodel.annotate.label_transfer import Labeled, check_apart, read_labels
from cellmodel.bench.metrics import ClassScores, score_classes
from cellmodel.core.arrays import Embedding
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import Cells
from cellmodel.pp.features import make_features
from cellmodel.pp.gene_weights import specific_text
from cellmodel.pp.text.align import align_cells, apply_knowledge, fit_whitening
from cellmodel.recipes.registry import find_recipe
from cellmodel.tl._run.pipeline import prepare

OWN_FEATURES: Final = ("expression", "text", "both")
OF_RECIPE: Final = "recipe:"
TEXT_SHARE: Final = 0.5  # length of the text part beside the expression part, where both are used


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialConfig:
    """What is tried."""

    label_key: str  # column of obs with the labels
    n_shots: tuple[int, ...] = (1, 3, 5, 10)  # labeled cells a class; empty for stratified splits alone
    n_draws: int = 20  # for each
    share_test: float | None = None  # fraction of each class that stratified splits test on; None leaves them out
    # ``expression``: smoothed principal components; ``text``: that of the cells' own genes; ``both`` side by side;
    # ``recipe:NAME``: what a recipe would cluster
    features: str = "expression"
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.n_draws < 1 or any(n_shot < 1 for n_shot in self.n_shots):
            raise ValueError(f"shots and draws must be >= 1, got {list(self.n_shots)} and {self.n_draws}")
        if not self.n_shots and self.share_test is None:
            raise ValueError("there is nothing to try: give numbers of shots, or a fraction to test on")
        if self.features not in OWN_FEATURES and not self.features.startswith(OF_RECIPE):
            own = ", ".join(OWN_FEATURES)
            raise ValueError(f"features must be {own} or {OF_RECIPE}NAME, got {self.features!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRow:
    """Scores of one number of shots over its draws."""

    n_shot: int  # labeled cells a class; 0 for stratified splits
    n_draws: int
    n_train: int  # n_train, n_test: cells of a draw
    n_test: int
    mean: dict[str, float]  # mean, sd: of accuracy, macro_f1, balanced_accuracy and share_unassigned, over the draws
    sd: dict[str, float]
    recall: dict[str, float]  # of each class, mean over the draws
    # classes, confusion: names of the columns, and (type, class) numbers of cells summed over the draws
    classes: tuple[str, ...]
    confusion: Int[np.ndarray, "type class"]


SCORED: Final = ("accuracy", "macro_f1", "balanced_accuracy", "share_unassigned")


def run_trials(cells: Cells, kb: genekb.Store | None, config: RunConfig, *, trials: TrialConfig) -> list[TrialRow]:
    """Hide the labels of most cells, predict them from the few that are left, and score the prediction.

    Features are made from all cells without labels, as when a few cells of a new data set are labeled by hand; what is
    fitted to labels sees those of the training cells alone.
    """
    known = read_labels(cells, trials.label_key)
    check_apart(known, cells, config, label_key=trials.label_key)
    features = trial_features(cells, kb, config, kind=trials.features)
    return score_trials(features, known, trials=trials, seed=config.seed)


def score_trials(features: Embedding, known: Labeled, *, trials: TrialConfig, seed: int) -> list[TrialRow]:
    """Run the draws on features that are at hand; see :func:`run_trials`."""
    classify = trials.classify
    if classify.contrast == "self":  # needs no label, so once for all draws
        features = contrastive_features(features, seed=seed, device=classify.device)
        classify = replace(classify, contrast="none")
    by_shot: dict[int, list[tuple[Split, ClassScores]]] = {}
    splits = [n_shot_splits(known.codes, n_shots=trials.n_shots, n_draws=trials.n_draws, seed=seed)]
    if trials.share_test is not None:
        share = trials.share_test
        splits.append(stratified_splits(known.codes, share_test=share, n_draws=trials.n_draws, seed=seed))
    for split in chain.from_iterable(splits):
        truth = [known.names[code] for code in known.codes[split.test]]
        predicted = _predicted(features, known, split, classify=classify, seed=seed)
        scores = score_classes(truth, predicted, unassigned=UNASSIGNED)
        by_shot.setdefault(split.n_shot, []).append((split, scores))
    return [_row(n_shot, drawn) for n_shot, drawn in by_shot.items()]


def _predicted(features: Embedding, known: Labeled, split: Split, *, classify: ClassifyConfig, seed: int) -> list[str]:
    """Classes of a split's test cells, from the labels of its training cells."""
    seen, codes = np.unique(known.codes[split.train], return_inverse=True)
    found = classify_cells(features, labeled=known.rows[split.train], classes=codes, config=classify, seed=seed)
    tested = found.classes[known.rows[split.test]]
    return [known.names[seen[code]] if code >= 0 else UNASSIGNED for code in tested.tolist()]


def _row(n_shot: int, drawn: Sequence[tuple[Split, ClassScores]]) -> TrialRow:
    every = [scores for _, scores in drawn]
    values = {name: np.array([getattr(scores, name) for scores in every]) for name in SCORED}
    types = tuple(every[0].recall)
    has_unassigned = any(UNASSIGNED in scores.classes for scores in every)
    classes = (*types, UNASSIGNED) if has_unassigned else types
    confusion = np.zeros((len(types), len(classes)), dtype=np.int64)
    for scores in every:
        confusion[:, : len(scores.classes)] += scores.confusion
    return TrialRow(
        n_shot=n_shot,
        n_draws=len(drawn),
        n_train=len(drawn[0][0].train),
        n_test=len(drawn[0][0].test),
        mean={name: float(each.mean()) for name, each in values.items()},
        sd={name: float(each.std()) for name, each in values.items()},
        recall={name: float(np.mean([scores.recall[name] for scores in every])) for name in types},
        classes=classes,
        confusion=confusion,
    )


def trial_features(cells: Cells, kb: genekb.Store | None, config: RunConfig, *, kind: str) -> Embedding:
    """Make the features of all cells without labels; ``kind``: as in :class:`TrialConfig`.

    Raises ``InputUnusable`` if text is asked for without a store, or with knowledge ``none``.
    """
    if kind.startswith(OF_RECIPE):  # which does not receive the number of clusters, since the labels would reveal it
        recipe = find_recipe(kind.removeprefix(OF_RECIPE))
        config = replace(config, recipe=recipe.name, n_clusters=None)
        if not recipe.uses_text:
            kb, config = None, replace(config, knowledge="none")
        return recipe.represent(prepare(cells, kb, config).views, config.seed).features
    made = make_features(cells, config)
    if kind == "expression":
        return made.smoothed
    if kb is None or config.knowledge == "none":
        raise InputUnusable(f'features {kind!r} need a store and knowledge; give `kb`, or features="expression"')
    alignment = align_cells(cells, kb, config)
    has_vector = alignment.has_vector[made.top_genes]
    vectors = apply_knowledge(
        alignment.vectors[made.top_genes[has_vector]], knowledge=config.knowledge, seed=config.seed
    )
    text = specific_text(made.expression[:, has_vector], fit_whitening(vectors, rank=config.semantics.rank)(vectors))
    return text if kind == "text" else side_by_side(made.smoothed, text)


def side_by_side(expression: Embedding, text: Embedding) -> Embedding:
    """Put both features of the cells side by side, the text at :data:`TEXT_SHARE` of the length."""
    return np.concatenate([_mean_length_one(expression), TEXT_SHARE * _mean_length_one(text)], axis=1)


def _mean_length_one(features: Float[np.ndarray, "cell dim"]) -> Float[np.ndarray, "cell dim"]:
    centered = features - features.mean(axis=0)
    return centered / max(float(np.sqrt((centered**2).sum(axis=1).mean())), 1e-12)
