"""The README that travels with a store."""

from collections.abc import Mapping
from typing import Any

from genekb.encoders.base import folder_name, is_folder_path
from genekb.sources.taxa import taxon_name
from genekb.store.manifest import Manifest


def store_card(manifest: Manifest) -> str:
    """Write the card of a store in Markdown: what it holds, from what, under which terms, how to read it."""
    species = ", ".join(f"{taxon_name(taxon)} ({taxon})" for taxon in manifest.taxa)
    sources = "\n".join(
        f"| {row['name']} | {row['n_rows_read']:,} | {row['n_rows_kept']:,} | `{row['sha256'][:16]}…` |"
        for row in manifest.sources
    )
    encoders = "\n".join(
        f"- `{encoder_id}`: {_public_name(entry['recipe'])}, "
        f"{entry['recipe']['dim']} dimensions, {entry['n_vectors']:,} vectors, {entry['n_texts_cut']:,} texts cut "
        f"at {entry['recipe']['max_tokens'] or 'no'} tokens"
        for encoder_id, entry in manifest.encoders.items()
    )
    return f"""# {manifest.name}@{manifest.release}

Gene knowledge store: {manifest.n_genes:,} genes of {species}; {manifest.n_texts:,} of them have a text
({manifest.n_unique_texts:,} distinct, {manifest.n_ortholog_texts:,} with the summary of an orthologue). Texts were
given to: {manifest.selection}. Template {manifest.template["number"]} ({manifest.template["name"]}).

## Encoders

{encoders or "none"}

## Sources

| file | rows read | rows kept | sha256 |
| --- | --- | --- | --- |
{sources}

Terms: {"; ".join(manifest.licences)}.

## Reading it

`genes.parquet`, `names.parquet`, `texts.parquet` and `embeddings/<encoder_id>/part-*.parquet` are plain Parquet;
`gene_id` joins genes, names and texts, `text_id` joins texts and vectors. `genekb verify` checks every byte.

## Limits

A vector says what the text says: genes without a text have none, and a text may be old, short or about another species.
"""


def _public_name(recipe: Mapping[str, Any]) -> str:
    """Name a model for readers elsewhere: of a folder on this machine its last part alone."""
    model_id = str(recipe["model_id"] or recipe["name"])
    return folder_name(model_id) if is_folder_path(model_id) else model_id
