"""Which labelled cells a classifier may see: few a class, many draws, or the larger part of each; no scores here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from cellmodel.errors import InputUnusable
from cellmodel.seeding import generator

Rows = Int[np.ndarray, " cell"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One draw: cells whose label is seen, and cells that are classified.

    Parameters
    ----------
    n_shot
        Labelled cells a class; 0 for a stratified split.
    draw
        Number of the draw.
    train, test
        Row numbers in rising order, disjoint.
    """

    n_shot: int
    draw: int
    train: Rows
    test: Rows


def n_shot_splits(
    classes: Int[np.ndarray, " cell"], *, n_shots: Sequence[int], n_draws: int, seed: int
) -> Iterator[Split]:
    """Draw a few labelled cells a class; all other cells are classified.

    A class with too few cells gives all but one, so that the task stays the same for every number of shots; a class of
    one cell is left out.

    Parameters
    ----------
    classes
        One number a cell, from 0.

    Raises
    ------
    ValueError
        If a number of shots or of draws is below 1.
    InputUnusable
        If fewer than two classes have two cells.
    """
    if n_draws < 1 or any(n_shot < 1 for n_shot in n_shots):
        raise ValueError(f"shots and draws must be >= 1, got {list(n_shots)} and {n_draws}")
    sizes = np.bincount(classes)
    usable = np.flatnonzero(sizes > 1)
    if len(usable) < 2:  # noqa: PLR2004 - one class leaves nothing to tell apart
        raise InputUnusable(
            f"{len(usable)} classes have more than one cell, 2 are needed: a cell to learn from, a cell to test on"
        )
    for n_shot in n_shots:
        for draw in range(n_draws):
            rng = generator(seed, f"{n_shot}-shot draw {draw}")
            rows = [rng.permutation(np.flatnonzero(classes == one)) for one in usable]
            kept = [min(n_shot, len(of_class) - 1) for of_class in rows]
            train = np.concatenate([of_class[:n] for of_class, n in zip(rows, kept, strict=True)])
            test = np.concatenate([of_class[n:] for of_class, n in zip(rows, kept, strict=True)])
            yield Split(n_shot=n_shot, draw=draw, train=np.sort(train), test=np.sort(test))


def stratified_splits(
    classes: Int[np.ndarray, " cell"], *, share_test: float, n_draws: int, seed: int
) -> Iterator[Split]:
    """Split every class in the same proportion, again and again; a class of one cell is left out.

    Raises
    ------
    ValueError
        If ``share_test`` does not lie between 0 and 1, or ``n_draws`` is below 1.
    InputUnusable
        If fewer than two classes have two cells.
    """
    if not 0 < share_test < 1 or n_draws < 1:
        raise ValueError(f"share_test must lie between 0 and 1 and n_draws be >= 1, got {share_test} and {n_draws}")
    usable = np.flatnonzero(np.bincount(classes) > 1)
    if len(usable) < 2:  # noqa: PLR2004 - one class leaves nothing to tell apart
        raise InputUnusable(f"{len(usable)} classes have more than one cell, 2 are needed; is the label column right?")
    for draw in range(n_draws):
        rng = generator(seed, f"stratified draw {draw}")
        train, test = [], []
        for one in usable:
            rows = rng.permutation(np.flatnonzero(classes == one))
            n_test = min(len(rows) - 1, max(1, round(share_test * len(rows))))
            test.append(rows[:n_test])
            train.append(rows[n_test:])
        yield Split(n_shot=0, draw=draw, train=np.sort(np.concatenate(train)), test=np.sort(np.concatenate(test)))
