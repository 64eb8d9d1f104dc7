"""Closed choices of a run, where importing them costs nothing."""

from typing import Literal

Knowledge = Literal["real", "shuffled", "random", "none"]
Sentences = Literal["pooled", "sampled", "encoded"]
HeadName = Literal["kmeans", "micro-ward", "leiden", "ot", "gmm"]
