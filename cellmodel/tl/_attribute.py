"""From clusters in a file, or in memory, to the evidence for them beside the cells."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import genekb
from cellmodel.core.config import RunConfig
from cellmodel.explain.evidence import AttributeConfig, Evidence, attribute_clusters
from cellmodel.explain.evidence_tables import evidence_frames, table_targets, write_tables
from cellmodel.explain.groups import clustered
from cellmodel.io.cells import Cells, ReadConfig, claim_slots, read_cells
from cellmodel.io.lineage import check_lineage, lineage_record
from cellmodel.io.outputs import WriteConfig, check_outputs
from cellmodel.io.writers import h5ad_safe, write_cells
from genekb.core.versions import installed_version


def attribute_file(
    path: Path,
    kb: genekb.Store,
    *,
    config: RunConfig,
    choice: AttributeConfig,
    read: ReadConfig,
    write: WriteConfig,
    tables: Path | None = None,
) -> Evidence:
    """Read cells with clusters, tell what sets them apart, write ``uns["<key>"]`` and, if asked for, tables.

    ``tables``: folder for ``markers.tsv``, ``contributions.tsv``, ``themes.tsv`` and ``enrichment.tsv``; made if
    missing. Raises ``InputUnusable`` if the input cannot be used, or an output exists and may not be replaced; the
    latter before any work; ``LineageMismatch`` if the clusters were made with another store.
    """
    check_outputs(write, *(table_targets(tables) if tables else ()), inputs=(path, *choice.gmt))
    cells = read_cells(path, read)
    evidence = attribute_cells(
        cells, kb, config=config, choice=choice, key_added=write.key_added, overwrite=write.overwrite
    )
    write_cells(cells.adata, write.output, source=path, overwrite=write.overwrite)
    if tables is not None:
        write_tables(evidence, tables, overwrite=write.overwrite)
    return evidence


def attribute_cells(
    cells: Cells,
    kb: genekb.Store,
    *,
    config: RunConfig,
    choice: AttributeConfig,
    key_added: str,
    overwrite: bool,
) -> Evidence:
    """Tell what sets the clusters of cells in memory apart, and write ``uns["<key>"]``; see :func:`attribute_file`."""
    claim_slots(cells.adata, [("uns", key_added)], overwrite=overwrite)
    made_with = check_lineage(cells, kb, config, key=choice.cluster_key, other_store=choice.other_store)
    found = clustered(cells, kb, config, cluster_key=choice.cluster_key)
    evidence = replace(attribute_clusters(found, kb, config=config, choice=choice), made_with=made_with)
    record: dict[str, Any] = {
        "params": asdict(choice) | {"gmt": [path.name for path in choice.gmt]},
        "seed": config.seed,
        "versions": {name: installed_version(name) for name in ("genekb-cellmodel", "numpy", "scipy")},
        "store_id": evidence.store_id,
        "encoder_id": evidence.encoder_id,
        "content_id": evidence.content_id,
        **lineage_record(made_with),
        "gene_sets": evidence.sources,
    }
    cells.adata.uns[key_added] = h5ad_safe(record | evidence_frames(evidence))
    return evidence
