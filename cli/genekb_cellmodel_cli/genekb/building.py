"""What the commands that write a store share: reading the source, and telling what was built."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from genekb.builder.assemble import BuildResult
    from genekb.builder.engine import EngineConfig
    from genekb.builder.plan import BuildConfig, Loader, Plan
    from genekb.sources.base import SourceTables


def check_store_name(name: str | None) -> str | None:
    """Take the name of a store that is to be made as an option's value: a wrong one is wrong use, before any work."""
    from genekb.core.errors import SourceUnusable
    from genekb.store.home import check_name

    try:
        return check_name(name) if name else name
    except SourceUnusable as error:
        raise typer.BadParameter(str(error)) from error


def check_encoder_name(name: str) -> str:
    """Take the name of an encoder that is to be made as an option's value, by the rule of every recipe."""
    from genekb.encoders import EncoderSpec

    try:
        return EncoderSpec(name=name, kind="foreign", model_id="", dim=1).name
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def read_tables(source: Path | None, *, taxa: list[str], release: str | None, names: Path | None) -> "SourceTables":
    """Read a source of any kind; the demo table where none is given."""
    from genekb.sources.open import read_source
    from genekb.sources.table import read_demo_table

    if source is None:
        return read_demo_table()
    known = read_source(names, taxa=taxa) if names else None
    return read_source(source, taxa=taxa, release=release, names=known)


def read_names(path: Path | None) -> tuple[str, ...] | None:
    """Read the gene names of a cell file or of a list."""
    if path is None:
        return None
    from cellmodel.io.cells import read_gene_totals

    return read_gene_totals(path)[0]


def describe_build(result: "BuildResult") -> dict[str, Any]:
    """Tell what a store holds, and how much of it was encoded now."""
    manifest = result.manifest
    return {
        "store": manifest.full_name,
        "digest": manifest.digest,
        "path": str(result.folder),
        "n_genes": manifest.n_genes,
        "n_texts": manifest.n_texts,
        "n_unique_texts": manifest.n_unique_texts,
        "n_ortholog_texts": manifest.n_ortholog_texts,
        "dropped": dict(manifest.dropped),
        "encoders": {key: entry["n_vectors"] for key, entry in manifest.encoders.items()},
        "n_texts_cut": {key: entry["n_texts_cut"] for key, entry in manifest.encoders.items()},
        "n_encoded_now": result.n_encoded,
        "n_taken_from_parent": result.n_reused,
        "n_kept_from_interrupted_run": result.n_kept,
    }


def describe_plan(plan: "Plan", tables: "SourceTables", config: "BuildConfig", *, home: Path | None) -> dict[str, Any]:
    """Report what a build would do: its time and size, and what an API would ask for it at most.

    Raises
    ------
    NotAvailable
        If an encoder is not on this machine.
    """
    from genekb.builder.plan import distinct_texts

    content: dict[str, Any] = {"name": plan.name, "n_genes": tables.genes.num_rows, "n_texts": plan.texts.num_rows}
    content |= {"n_unique_texts": plan.n_unique_texts, "models": list(config.models)}
    return content | describe_costs(
        config.models, distinct_texts(plan.texts), load=config.loader(home), dtype=config.vector_dtype
    )


def describe_costs(models: Sequence[str], texts: Sequence[str], *, load: "Loader", dtype: str) -> dict[str, Any]:
    """Time and size by encoder, as measured on some of the texts; the price of those behind an API."""
    from dataclasses import asdict

    from genekb.builder.plan import estimate_encoding
    from genekb.encoders.api.client import estimate_price
    from genekb.encoders.kinds import without_prefix
    from genekb.encoders.registry import is_remote

    bases = {without_prefix(model, "shuffled") for model in models}
    remote = {base: without_prefix(base, "api") for base in bases if is_remote(base)}
    prices = {base: asdict(estimate_price(texts, model_id=model)) for base, model in remote.items()}

    def estimate(base: str) -> dict[str, Any]:
        return asdict(estimate_encoding(lambda sample: load(base, corpus=sample), texts, dtype=dtype))

    estimates = {base: estimate(base) for base in sorted(bases - set(prices))}
    return ({"estimate": estimates} if estimates else {}) | ({"price": prices} if prices else {})


def engine_config(**choices: Any) -> "EngineConfig":
    """Say who encodes; choices that exclude one another are wrong usage."""
    from genekb.builder.engine import EngineConfig

    try:
        return EngineConfig(**choices)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def taxon_slug(taxon: str) -> str:
    """Make the name of a species fit for the name of a store."""
    return taxon.strip().lower().replace(" ", "-")
