"""The optimizer Adam in NumPy, for models so small that importing PyTorch would take longer than training them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

Weights = Mapping[str, np.ndarray]
_BETAS: Final = (0.9, 0.999)
_EPSILON: Final = 1e-8


@dataclass(slots=True)
class AdamW:
    """Adam with the weights' decay apart from the gradient, with PyTorch's constants; float32, changed in place."""

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
