"""Settings of a run: one frozen dataclass a component, one set of values for every data set; no NumPy is loaded."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, Literal, Protocol, get_args

from genekb.core.messages import check_choice

Knowledge = Literal["real", "shuffled", "random", "none"]
Sentences = Literal["pooled", "sampled", "encoded"]
Values = Literal["auto", "counts", "linear", "log1p"]  # what the values of a matrix are declared to be
HeadName = Literal["kmeans", "leiden", "ot", "gmm"]
RESOLUTION: Final = 0.5  # of Leiden where neither a number of clusters nor a resolution is given
SEEDS: Final = range(-(2**63), 2**63)  # what a file can hold


class NamedRecipe(Protocol):
    """What a record keeps of a `Recipe`, see :class:`cellmodel.recipes.base.Recipe`."""

    @property
    def name(self) -> str:
        """Name of the recipe."""


def check_seed(seed: int) -> None:
    """Refuse a seed that does not fit into the 64 bits that a file holds."""
    if seed not in SEEDS:
        raise ValueError(f"a seed must lie from {SEEDS[0]} to {SEEDS[-1]}, got {seed}")


def check_device(name: str) -> str:
    """Take the name of a device: auto (the GPU if there is one), cpu, cuda or cuda:N; only a CPU repeats to the bit."""
    if name not in ("auto", "cpu", "cuda") and not name.removeprefix("cuda:").isdecimal():
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    return name


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphConfig:
    """How the neighbors graph of the cells is built."""

    n_neighbors: int = 15  # of a cell, itself not counted; all other cells if there are fewer
    metric: Literal["cosine", "euclidean"] = "cosine"  # 1 - cosine (0 to 2), or Euclidean distance
    exact_up_to: int = 15_000  # cells up to which the search is exact (time is quadratic); above it, approximate

    def __post_init__(self) -> None:
        if self.n_neighbors < 1:
            raise ValueError(f"n_neighbors must be >= 1, got {self.n_neighbors}")


_MOST_VOTERS: Final = 0.015  # fraction of the spots: more of a small array is a whole layer of it
_LEAST_VOTERS: Final = 4  # the direct neighbors on a square array


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig:
    """How counts become features."""

    min_cells: int = 3  # a gene seen in fewer cells is not a feature
    n_top_genes: int = 2000
    n_components: int = 50
    n_smoothing: int = 2  # SGC steps over the graph

    def __post_init__(self) -> None:
        for name in ("min_cells", "n_top_genes", "n_components"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticsConfig:
    """How the text of genes becomes a view of cells."""

    rank: int = 128  # dimensions kept by whitening
    path1_weight: float = 0.5  # share of the expression-weighted path; the rest is the ranked sentence
    sentence_genes: int = 256  # genes in a cell's sentence
    sentences: Sentences = "pooled"
    n_sampled: int = 1000  # cells of which pooled and encoded sentences are compared, where the encoder reads any

    def __post_init__(self) -> None:
        if not 0 <= self.path1_weight <= 1:
            raise ValueError(f"path1_weight must lie in [0, 1], got {self.path1_weight}")
        if self.rank < 1 or self.sentence_genes < 1:
            raise ValueError(f"rank and sentence_genes must be >= 1, got {self.rank} and {self.sentence_genes}")
        if self.n_sampled < 1:
            raise ValueError(f"n_sampled must be >= 1, got {self.n_sampled}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpatialConfig:
    """How the coordinates of cells or spots are used.

    Examples
    --------
    >>> SpatialConfig().voters_of(n_cells=269)
    4
    >>> SpatialConfig().voters_of(n_cells=3611)
    50
    """

    n_neighbors: int = 6  # nearest others that each cell is linked with, by its coordinates
    smooth_labels: bool = False  # whether each cell takes the cluster of the majority around it at the end
    n_voters: int = 50  # how many of the nearest others make that majority, with the cell itself

    def __post_init__(self) -> None:
        if self.n_neighbors < 1 or self.n_voters < 1:
            raise ValueError(f"n_neighbors and n_voters must be >= 1, got {self.n_neighbors} and {self.n_voters}")

    def voters_of(self, *, n_cells: int) -> int:
        """Limit the voters to 1.5 % of the cells, or to 4 where that is less."""
        return min(self.n_voters, max(_LEAST_VOTERS, round(_MOST_VOTERS * n_cells)))


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """What a run changes of the training of its recipe; None leaves what the recipe has."""

    epochs: int | None = None  # passes over the cells in each stage of the training
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {self.epochs}")
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be > 0, got {self.learning_rate}")


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityConfig:
    """Which cells a run leaves out, none unless a limit is set; and whether it looks for doublets."""

    min_counts: int | None = None  # a cell has at least so many counts
    min_genes: int | None = None  # and so many genes with a count
    max_mito: float | None = None  # and at most so many % of its counts from mitochondrial genes
    doublets: bool = False  # whether doublets are looked for; they are marked, and stay

    def __post_init__(self) -> None:
        for name in ("min_counts", "min_genes"):
            if (getattr(self, name) or 1) < 1:
                raise ValueError(f"`{name}` must be >= 1, got {getattr(self, name)}")
        if self.max_mito is not None and not 0 <= self.max_mito <= 100:  # noqa: PLR2004 - percent
            raise ValueError(f"`max_mito` is in percent, 0 to 100, got {self.max_mito}")


HARMONY_THETA: Final = 2.0  # Harmony's own
MOST_THETA: Final = 1000.0  # far above any use; Harmony's own numbers overflow from about 1e300


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig:
    """How batches are integrated: technical groups of cells, such as samples, donors or protocols."""

    key: str  # column of obs with the batch of each cell
    # ``harmony``, ``none``, or the name of a plug-in; None for Harmony, and for none where ``use_rep`` is given
    integration: str | None = None
    confounded_ok: bool = False  # whether batches may be cell types or conditions, which integration takes away
    # Harmony's theta: how much it counts that each center has cells of all batches. More mixes small batches of other
    # protocols better, less keeps more of the types that one batch alone has
    theta: float = HARMONY_THETA

    def __post_init__(self) -> None:
        if not 0 <= self.theta <= MOST_THETA:
            raise ValueError(f"theta must be in [0, {MOST_THETA:g}], got {self.theta}")
        if self.theta != HARMONY_THETA and self.integration not in {None, "harmony"}:
            raise ValueError(f"`harmony_theta` is a setting of Harmony, not of integration={self.integration!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that decides a run's result, beside the cells and the store.

    Parameters
    ----------
    recipe
        Name of a recipe, or a `Recipe`, of which records hold the name.
    n_clusters
        Number of clusters, for which the resolution is searched; None to take what the resolution gives.
    resolution
        Of the Leiden communities, > 0, in place of ``n_clusters``; None for :data:`RESOLUTION`.
    knowledge
        ``real`` gene vectors, ``shuffled`` among the genes, ``random`` isotropic ones, or ``none``.
    encoder
        Encoder of the store; its first one if None.
    use_orthologs
        Whether symbols of an orthologue may map to a gene.
    min_coverage
        Share of the genes that must have a text, below which the run refuses.
    n_words
        Words looked for per cluster; 0 skips markers and words.
    seed
        The run's one seed.
    head
        Clustering head; the recipe's own if None.
    spatial
        How the cells' coordinates are used; None to leave them out.
    low_data
        Whether genes are weighted by how informative they are, by the data and by their texts, and fewer components
        are kept: for few cells.
    batch
        Batches of the cells and how they are integrated; None for cells of one batch.
    use_rep
        Key of obsm with an embedding that takes the place of the principal components; None for these.
    training
        What is changed of the training of the recipe.
    quality
        Which cells are left out.
    device
        Where the model is trained: auto, cpu, cuda or cuda:N; no part of what decides the result, so neither compared
        nor in :meth:`to_dict`.

    Examples
    --------
    >>> import cellmodel as cm
    >>> cm.RunConfig(n_clusters=8, seed=1).to_dict()["n_clusters"]
    8
    """

    recipe: str | NamedRecipe = "fused"
    n_clusters: int | None = None
    resolution: float | None = None
    knowledge: Knowledge = "real"
    encoder: str | None = None
    use_orthologs: bool = False
    min_coverage: float = 0.3
    n_words: int = 10
    seed: int = 0
    head: HeadName | None = None
    spatial: SpatialConfig | None = None
    low_data: bool = False
    batch: BatchConfig | None = None
    use_rep: str | None = None
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    semantics: SemanticsConfig = field(default_factory=SemanticsConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    device: str = field(default="cpu", compare=False)

    def __post_init__(self) -> None:
        if self.n_clusters is not None and self.n_clusters < 1:
            raise ValueError(f"n_clusters must be >= 1, got {self.n_clusters}")
        if self.resolution is not None and not 0 < self.resolution < float("inf"):
            raise ValueError(f"`resolution` must be a number > 0, got {self.resolution}")
        if self.resolution is not None and self.n_clusters is not None:
            raise ValueError("`n_clusters` and `resolution` each say how many clusters there are; leave one out")
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage must lie in [0, 1], got {self.min_coverage}")
        if self.low_data and self.use_rep is not None:
            raise ValueError("`low_data` weighs genes in the components, which `use_rep` replaces; leave one out")
        check_choice("knowledge", self.knowledge, get_args(Knowledge))
        check_choice("sentences", self.semantics.sentences, get_args(Sentences))
        check_seed(self.seed)
        check_device(self.device)

    @property
    def recipe_name(self) -> str:
        """Name of the recipe."""
        return self.recipe if isinstance(self.recipe, str) else self.recipe.name

    @property
    def integration(self) -> str:
        """How batches are integrated, ``none`` where they are not."""
        if self.batch is None:
            return "none"
        return self.batch.integration or ("harmony" if self.use_rep is None else "none")

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, for the record; ``resolution``, ``batch``, ``use_rep``, ``quality`` where set."""
        plain = asdict(replace(self, recipe=self.recipe_name))
        unset = {name for name in ("batch", "use_rep", "resolution") if plain[name] is None}
        defaults = {"training": TrainingConfig(), "quality": QualityConfig()}
        unset |= {name for name, default in defaults.items() if getattr(self, name) == default}
        return {name: value for name, value in plain.items() if name != "device" and name not in unset}


_RENAMED: Final = {"random_state": "seed", "orthologs": "use_orthologs"}  # settings whose arguments have other names
_OF_QUALITY: Final = tuple(each.name for each in fields(QualityConfig))
_OF_BATCHES: Final = {"integration": "integration", "confounded_ok": "confounded_ok", "harmony_theta": "theta"}


def settings_of(
    base: RunConfig | None = None,
    *,
    batch_key: str | BatchConfig | None = None,
    spatial: bool | SpatialConfig = False,
    smooth_labels: bool = False,
    sentences: Sentences = "pooled",
    n_clusters: int | str | None = None,
    **given: Any,
) -> RunConfig:
    """Give the settings of a run by arguments of the same names; one at its default leaves what ``base`` says."""
    base, defaults = base or RunConfig(), RunConfig()
    of_batches = {name: given.pop(name) for name in _OF_BATCHES if name in given}
    of_quality = {name: value for name in _OF_QUALITY if (value := given.pop(name, None)) not in {None, False}}
    named = {_RENAMED.get(name, name): value for name, value in given.items()}
    changed = {name: value for name, value in named.items() if value != getattr(defaults, name)}
    if sentences != SemanticsConfig().sentences:
        changed["semantics"] = replace(base.semantics, sentences=sentences)
    if of_quality:
        changed["quality"] = replace(base.quality, **of_quality)
    if n_clusters not in {None, "auto"}:
        changed["n_clusters"] = n_clusters
    batch = _batch(BatchConfig(key=batch_key) if isinstance(batch_key, str) else batch_key or base.batch, of_batches)
    coordinates = SpatialConfig() if spatial is True else spatial or base.spatial
    if smooth_labels and coordinates is None:
        raise ValueError("`smooth_labels` needs coordinates; give spatial=True too")
    if smooth_labels and coordinates:
        coordinates = replace(coordinates, smooth_labels=True)
    return replace(base, **changed, batch=batch, spatial=coordinates)


def _batch(batch: BatchConfig | None, arguments: dict[str, Any]) -> BatchConfig | None:
    defaults = BatchConfig(key="")
    given = [name for name, value in arguments.items() if value != getattr(defaults, _OF_BATCHES[name])]
    if given and batch is None:
        names = ", ".join(f"`{name}`" for name in given)
        raise ValueError(
            f"{names} {'goes' if len(given) == 1 else 'go'} with `batch_key`, the column of obs with the batches"
        )
    return batch and replace(batch, **{_OF_BATCHES[name]: arguments[name] for name in given})
