"""Training: the optimization loop, its device, settings and batches, terms of objectives, AdamW without PyTorch."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import numpy as np
from jaxtyping import Int

from cellmodel.core.config import TrainingConfig
from cellmodel.core.errors import NotAvailable, TrainingDiverged
from genekb.core.progress import progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Drawn = TypeVar("Drawn")
Loss = TypeVar("Loss")
Batch = Mapping[str, "Tensor"]
Draw = Callable[[np.random.Generator], "Tensor"]  # gives the rows of a batch
Forward = Callable[["nn.Module", Batch], Mapping[str, "Tensor"]]  # what losses read; weighted terms, of an objective
Values = Mapping[str, float]  # of the terms of an objective
History = tuple[Values, ...]  # mean values of each epoch
BeforeEpoch = Callable[[int], None]
Weights = Mapping[str, np.ndarray]
BLOCK_CELLS: Final = 20_000  # cells whose activations are in memory at once where nothing is trained
_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # of AdamW, PyTorch's


class Rows(Protocol):
    """Values by cell that need not be in memory: a batch asks for its rows, which come as a new array."""

    def __len__(self) -> int:
        """Count the cells."""

    def __getitem__(self, rows: Int[np.ndarray, " row"]) -> np.ndarray:
        """Give the values of some cells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How long and in which steps a model is trained; the result is the last step's."""

    n_steps: int = 300  # steps of the optimizer at most
    n_epochs: int | None = None  # passes over the cells in place of steps; None goes by ``n_steps``
    # cells a step; None takes all of them in their order, for models that read a whole graph
    batch_size: int | None = 256
    # learning_rate, weight_decay: of AdamW
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    # stop when the total loss has not fallen by a thousandth of itself for so many epochs; None never does
    patience: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.n_steps < 1 or (self.batch_size is not None and self.batch_size < 2):  # noqa: PLR2004 - a contrast needs two cells
            raise ValueError(f"n_steps must be >= 1 and batch_size >= 2, got {self.n_steps} and {self.batch_size}")
        for name in ("patience", "n_epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")

    def changed(self, training: TrainingConfig) -> "TrainConfig":
        """Take what a run changes of the training of its recipe."""
        n_epochs, learning_rate = training.epochs or self.n_epochs, training.learning_rate or self.learning_rate
        return replace(self, n_epochs=n_epochs, learning_rate=learning_rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Term(Generic[Loss]):
    """One term of an objective: its name, its weight, and the loss of a model on a batch."""

    name: str
    weight: float
    loss: Loss = field(repr=False)


TensorTerm = Term[Callable[[Mapping[str, "Tensor"]], "Tensor"]]


def objective(forward: Forward, terms: "tuple[TensorTerm, ...]") -> Forward:
    """Combine a forward pass and weighted terms into what :func:`fit` minimizes."""

    def weighted(model: "nn.Module", batch: Batch) -> "dict[str, Tensor]":
        outputs = forward(model, batch)
        return {term.name: term.weight * term.loss(outputs) for term in terms}

    return weighted


def without(terms: tuple[Term[Loss], ...], off: frozenset[str]) -> tuple[Term[Loss], ...]:
    """Leave out terms by name; ``ValueError`` if none is left, or a name is none of theirs."""
    unknown = off - {term.name for term in terms}
    kept = tuple(term for term in terms if term.name not in off)
    if unknown or not kept:
        raise ValueError(f"{sorted(off)} of {[term.name for term in terms]} cannot be left out")
    return kept


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_steps(
    step: Callable[[Drawn], tuple[Values, Callable[[], None]]],
    batches: Iterable[tuple[Drawn, bool]],
    *,
    config: TrainConfig,
    on_epoch: BeforeEpoch | None = None,
) -> History:
    """Do the steps of a training: the one loop, of models of PyTorch and of NumPy.

    ``step``: gives the values of the terms on a batch, and what updates the weights. ``batches``: and whether each ends
    an epoch. ``on_epoch``: called before each epoch with its number, from 0. Raises ``TrainingDiverged`` if a term
    becomes infinite or NaN.
    """
    history: list[Values] = []
    steps: list[Values] = []
    for number, (batch, ends_epoch) in enumerate(batches):
        if on_epoch and not steps:
            on_epoch(len(history))
        values, update = step(batch)
        if not math.isfinite(sum(values.values())):
            raise TrainingDiverged(f"step {number}: {dict(values)}; check the input for extreme values")
        update()
        steps.append(values)
        if ends_epoch:
            history.append({name: float(np.mean([each[name] for each in steps])) for name in values})
            steps = []
            progress("training, epochs", len(history), config.n_epochs or 0)
            if _has_stalled(history, config.patience):
                break
    return tuple(history)


@_one_thread()
def fit(
    model: "nn.Module",
    objective: Forward,
    *,
    views: "Mapping[str, Tensor | Rows]",
    config: TrainConfig,
    rng: np.random.Generator,
    on_epoch: BeforeEpoch | None = None,
    draw: Draw | None = None,
) -> History:
    """Train a model on mini-batches of cells, on the device that holds its parameters.

    One CPU thread is used: the models are small, a second thread gains little, loses much on a busy machine, and makes
    the result depend on their number. The number of steps is that of ``config``, however many cells there are, unless
    it counts epochs.

    ``objective``: gives the weighted terms of the loss of one batch, by name. ``views``: values whose first axis is the
    cell; a batch holds the same rows of each. Of what is no tensor, such as a memory-mapped array, only these rows are
    read. ``rng``: decides the order of the cells. ``on_epoch``: as in :func:`run_steps`: where targets are refreshed on
    a schedule. ``draw``: gives the cells of each step, whatever the size of a batch; a step is an epoch then. Returns
    the mean of each term in each epoch. Raises ``TrainingDiverged`` if a term becomes infinite or NaN.
    """
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

    def step(rows: "Tensor") -> tuple[Values, Callable[[], None]]:
        terms = objective(model, _batch(views, rows, model))
        loss = torch.stack(list(terms.values())).sum()

        def update() -> None:
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
            optimizer.step()

        return {name: term.item() for name, term in terms.items()}, update

    model.train()
    history = run_steps(step, _tensor_batches(views, config, rng, draw), config=config, on_epoch=on_epoch)
    model.eval()
    return history


def _has_stalled(history: Sequence[Values], patience: int | None) -> bool:
    """Whether the total loss of the last epochs is no lower than the lowest before them."""
    if patience is None or len(history) <= patience:
        return False
    totals = [sum(epoch.values()) for epoch in history]
    best = min(totals[:-patience])
    return min(totals[-patience:]) > best - 1e-3 * abs(best)


def _batch(views: "Mapping[str, Tensor | Rows]", rows: "Tensor", model: "nn.Module") -> "dict[str, Tensor]":
    """Rows of every view, on the model's device."""
    import torch

    taken = {
        name: view[rows.to(view.device)] if isinstance(view, torch.Tensor) else torch.from_numpy(view[rows.numpy()])
        for name, view in views.items()
    }
    return {name: values.to(next(model.parameters()).device) for name, values in taken.items()}


def _tensor_batches(
    views: "Mapping[str, Tensor | Rows]", config: TrainConfig, rng: np.random.Generator, draw: Draw | None
) -> "Iterator[tuple[Tensor, bool]]":
    """Rows of each step's batch, drawn as the caller says or as :func:`batches` does, and whether it ends an epoch."""
    import torch

    if draw is not None:
        yield from ((draw(rng), True) for _ in range(config.n_epochs or config.n_steps))
        return
    for rows, ends_epoch in batches(len(next(iter(views.values()))), config, rng):
        yield torch.from_numpy(rows), ends_epoch


def batches(
    n_cells: int, config: TrainConfig, rng: np.random.Generator
) -> Iterator[tuple[Int[np.ndarray, " row"], bool]]:
    """Rows of each step's batch, and whether it ends a pass over the cells; a rest too small for a batch is left."""
    if config.batch_size is None:
        yield from ((np.arange(n_cells), True) for _ in range(config.n_epochs or config.n_steps))
        return
    size = min(config.batch_size, n_cells)
    per_epoch = n_cells // size
    n_steps = config.n_epochs * per_epoch if config.n_epochs else config.n_steps
    for step in range(n_steps):
        place = step % per_epoch
        if place == 0:
            order = rng.permutation(n_cells)
        yield order[place * size : (place + 1) * size], place == per_epoch - 1 or step == n_steps - 1


@dataclass(slots=True)
class AdamW:
    """PyTorch's optimizer of that name in NumPy, for models so small that importing PyTorch would take longer.

    ``weights``: float32, changed in place.
    """

    weights: Weights
    learning_rate: float
    weight_decay: float = 0.0
    n_steps: int = 0
    moments: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(init=False)

    def __post_init__(self) -> None:
        """Start the moments at zero."""
        self.moments = {name: (np.zeros_like(each), np.zeros_like(each)) for name, each in self.weights.items()}

    def step(self, gradient: Weights) -> None:
        """Move the weights."""
        self.n_steps += 1
        rate, correction = self.learning_rate, 1 - _BETAS[1] ** self.n_steps
        for name, (mean, square) in self.moments.items():
            weight, own = self.weights[name], gradient[name]
            np.add(np.float32(_BETAS[0]) * mean, np.float32(1 - _BETAS[0]) * own, out=mean)
            np.add(np.float32(_BETAS[1]) * square, np.float32(1 - _BETAS[1]) * own**2, out=square)
            size = np.sqrt(square) * np.float32(correction**-0.5) + np.float32(_EPSILON)
            np.multiply(weight, np.float32(1 - rate * self.weight_decay), out=weight)
            np.subtract(weight, np.float32(rate / (1 - _BETAS[0] ** self.n_steps)) * mean / size, out=weight)


def find_device(name: str) -> "torch.device":
    """Device by name; ``auto`` is the GPU if there is one; ``NotAvailable`` if it is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NotAvailable(f'device {name!r} is not there ({torch.cuda.device_count()} GPUs found); use device="cpu"')
    return device


def device_used(name: str) -> str:
    """Device that a name maps to, for the record of a run; PyTorch is not loaded to say that it is the CPU."""
    return "cpu" if name == "cpu" else str(find_device(name))
