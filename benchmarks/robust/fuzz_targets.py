"""What the fuzzer reads: for each reader a small valid input, and the functions that a command calls on such input."""

import hashlib
import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.robust.fuzz_base import Target, read_each
from benchmarks.robust.fuzz_cells import (
    promise_model,
    read_model,
    read_stored,
    read_whole,
    write_10x_h5,
    write_10x_mtx,
    write_h5ad,
    write_h5mu,
    write_loom,
    write_model,
    write_zarr,
)
from benchmarks.robust.fuzz_notes import read_entrez, read_notes, write_entrez, write_notes

DATA = Path(__file__).parents[2] / "tests" / "data" / "ncbi"
SUMMARIES = "#tax_id\tGeneID\tSource\tSummary\n9606\t3630\tRefSeq\tHormone of beta cells that lowers glucose.\n"
EXTRA = {
    "gene_history": "#tax_id\tGeneID\tDiscontinued_GeneID\tDiscontinued_Symbol\tDiscontinue_Date\n"
    "9606\t3630\t7\tOLD\t1\n",
    "gene2go": "#tax_id\tGeneID\tGO_ID\tEvidence\tQualifier\tGO_term\tPubMed\tCategory\n"
    "9606\t3630\tGO:0005179\tIDA\tenables\thormone activity\t1\tFunction\n",
    "generifs_basic": "#Tax ID\tGene ID\tPubMed ID (PMID) list\tlast update timestamp\tGeneRIF text\n"
    "9606\t3630\t12,13\t2020-01-01 10:00\tInsulin lowers glucose.\n",
    "gene2ensembl": "#tax_id\tGeneID\tEnsembl_gene_identifier\tRNA_nucleotide_accession.version\t"
    "Ensembl_rna_identifier\tprotein_accession.version\tEnsembl_protein_identifier\n"
    "9606\t3630\tENSG00000254647\tNM_1.1\tENST1.1\tNP_1.1\tENSP1.1\n",
    "hgnc_complete_set.txt": "hgnc_id\tsymbol\tstatus\tentrez_id\tprev_symbol\talias_symbol\tensembl_gene_id\t"
    'gene_group\tgene_group_id\nHGNC:6081\tINS\tApproved\t3630\t"IDDM1|IDDM2"\tproinsulin\tENSG00000254647\tHormones\t5\n',
}
REPORT = {
    "geneId": "3630", "symbol": "INS", "taxId": "9606", "description": "insulin", "type": "PROTEIN_CODING",
    "synonyms": ["IDDM1", "ILPR"], "ensemblGeneIds": ["ENSG00000254647"], "chromosomes": ["11"],
    "nomenclatureAuthority": {"authority": "HGNC", "identifier": "HGNC:6081"},
    "summary": [{"source": "RefSeq", "description": "Lowers glucose. [provided by RefSeq]"}],
    "geneOntology": {"molecularFunctions": [{"goId": "GO:1", "name": "hormone", "evidenceCode": "IDA"}]},
}  # fmt: skip
WORDS = "4 3\nINS 1.0 2.0 3.0\nGCG 0.5 1e-3 -2\nCD19 1 0 1\nMS4A1 2 2 2\n"


def write_gene_info(folder: Path) -> None:
    import gzip

    (folder / "Homo_sapiens.gene_info").write_bytes((DATA / "human_gene_info_2022-11.tsv").read_bytes())
    mouse = gzip.compress((DATA / "mouse_gene_info_2022-11.tsv").read_bytes(), mtime=0)
    (folder / "Mus_musculus.gene_info.gz").write_bytes(mouse)
    (folder / "gene_summary").write_text(SUMMARIES)


def read_genes(folder: Path) -> Any:
    from genekb.builder.plan import BuildConfig, plan_build
    from genekb.sources.open import read_source

    return plan_build(read_source(folder, taxa=["human", "mouse"]), BuildConfig(name="fuzzed@1", models=()))


def write_extra(folder: Path) -> None:
    (folder / "gene_orthologs").write_bytes((DATA / "gene_orthologs.tsv").read_bytes())
    for name, text in EXTRA.items():
        (folder / name).write_text(text)


def read_extra(folder: Path) -> Any:
    """Read the optional files beside a gene_info that is whole."""
    write_gene_info(folder)
    return read_genes(folder)


def write_report(folder: Path) -> None:
    second = REPORT | {"geneId": "2641", "symbol": "GCG"}
    (folder / "data_report.jsonl").write_text(f"{json.dumps(REPORT)}\n{json.dumps({'gene': second})}\n")


def read_report(folder: Path) -> Any:
    from genekb.sources.open import read_source

    return read_source(folder / "data_report.jsonl", taxa=["human"])


def write_tables(folder: Path) -> None:
    table = {"gene_id": [3630, 2641], "symbol": ["INS", "GCG"], "summary": ["lowers glucose", "raises it"]}
    frame = pd.DataFrame(table | {"aliases": ["IDDM|ILPR", "GLP1"]})
    frame.to_csv(folder / "genes.csv", index=False)
    frame.to_csv(folder / "genes.tsv", index=False, sep="\t")
    lists = pa.table(table | {"aliases": [["IDDM"], ["GLP1", "GLP2"]]})
    pq.write_table(lists, folder / "genes.parquet")
    (folder / "genes.json").write_text(json.dumps({"INS": "lowers glucose", "1-Mar": "ligase", "CD19": "B cells"}))


@cache
def known_genes() -> Any:
    import tempfile

    from genekb.sources.ncbi_bulk import read_ncbi_folder

    with tempfile.TemporaryDirectory() as name:
        write_gene_info(Path(name))
        return read_ncbi_folder(Path(name), taxa=["human"])


def read_tables(folder: Path) -> Any:
    from genekb.builder.plan import BuildConfig, plan_build
    from genekb.sources.open import read_source

    def read(path: Path) -> Any:
        tables = read_source(path, taxa=["human"], names=known_genes())
        return plan_build(tables, BuildConfig(name="fuzzed@1", models=()))

    return read_each(sorted(folder.glob("genes.*")), read)


def write_vectors(folder: Path) -> None:
    import pickle

    from safetensors.numpy import save_file

    names = ["INS", "GCG", "CD19"]
    values = np.arange(12, dtype=np.float32).reshape(3, 4) + 1
    (folder / "words.txt").write_text(WORDS)
    pd.DataFrame(values, columns=list("abcd")).assign(symbol=names).to_csv(folder / "vectors.csv", index=False)
    lists = dict(zip(names, values.tolist(), strict=True))
    (folder / "vectors.json").write_text(json.dumps(lists))
    (folder / "vectors.pickle").write_bytes(pickle.dumps(lists))
    pq.write_table(pa.table({"symbol": names, "vector": values.tolist()}), folder / "vectors.parquet")
    np.save(folder / "vectors.npy", values)
    np.savez(folder / "vectors.npz", vectors=values, symbols=np.array(names))
    save_file({"vectors": values}, folder / "vectors.safetensors")
    (folder / "names.list").write_text("\n".join(names) + "\n")
    (folder / "rows.map").write_text(json.dumps({name: row for row, name in enumerate(names)}))


def read_vectors(folder: Path) -> Any:
    from genekb.encoders.imported.vectors import foreign_spec, read_foreign

    def read(path: Path) -> Any:
        names = folder / "names.list" if path.suffix in {".npy", ".safetensors"} else None
        found = read_foreign(path, names=names)
        return foreign_spec(name="mine", vectors=found)

    paths = sorted(path for path in folder.iterdir() if path.suffix not in {".list", ".map"})
    return read_each(paths, read)


def write_lists(folder: Path) -> None:
    (folder / "names.txt").write_text("INS\nGCG\nMARCH1\n")
    (folder / "types.txt").write_text("B cell\nT cell\n")
    (folder / "types.csv").write_text("cell_type,definition,genes\nB cell,makes antibodies,CD19 MS4A1\nT cell,,CD3D\n")
    (folder / "panel.tsv").write_text("cell_type\tgene\nB cell\tCD19\nT cell\tCD3D\n")
    (folder / "panel.json").write_text('{"B cell": ["CD19", "MS4A1"], "T cell": ["CD3D"]}')
    (folder / "names.dmp").write_text("40151\t|\tMonodon monoceros\t|\t\t|\tscientific name\t|\n")


def read_lists(folder: Path) -> Any:
    from cellmodel.annotate.candidates import read_candidates, read_panel
    from cellmodel.io.gene_names import read_gene_totals
    from genekb.genes.taxa import find_taxon

    def read(path: Path) -> Any:
        if path.stem == "names":
            return read_gene_totals(path) if path.suffix == ".txt" else find_taxon("monodon monoceros", folder)
        return read_panel(path) if path.stem == "panel" else read_candidates(path)

    return read_each(sorted(folder.iterdir()), read)


def write_store(folder: Path) -> None:
    import shutil
    import tempfile

    from genekb.builder.plan import BuildConfig, build

    with tempfile.TemporaryDirectory() as name:
        config = BuildConfig(name="human@1", models=("hash-16", "wcp-4"))
        made = build(known_genes(), config, home=Path(name)).folder
        shutil.copytree(made, folder / "store")


def read_store(folder: Path) -> Any:
    """Read all that commands read of a store."""
    from genekb.builder.diff import diff_stores
    from genekb.store.reader import Store
    from genekb.store.search import search_genes
    from genekb.store.verify import verify_store

    kb = Store(folder / "store")
    genes = [3630, 2641, 930]

    uses: list[Callable[[], Any]] = [
        lambda: kb.coverage(kb.resolve(["INS", "MARCH1", "x"])),
        lambda: kb.texts(genes),
        lambda: search_genes(kb, "insulin", mode="keyword"),
        lambda: kb.sql("select count(*) as n, sum(hash(text)) as h from texts"),
        lambda: diff_stores(kb, kb),
        lambda: verify_store(folder / "store"),
    ]
    for name in kb.manifest.encoders:
        uses.append(lambda name=name: kb.vectors(genes, encoder=name))
        uses.append(lambda name=name: kb.search("insulin", encoder=name, limit=3))
    return read_each(uses, lambda use: use())


def promise_store(folder: Path) -> None:
    """Let the manifest promise the files as they are, and its digest what it says."""
    from genekb.files.atomic import canonical_json, sha256_file

    path = folder / "store" / "manifest.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for entry in content["files"]:
            file = folder / "store" / entry["path"]
            entry |= {"n_bytes": file.stat().st_size, "sha256": sha256_file(file)}
        kept = {key: value for key, value in content.items() if key not in {"digest", "created_at", "created_by"}}
        content["digest"] = hashlib.sha256(canonical_json(kept).encode()).hexdigest()
        path.write_text(json.dumps(content), encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # it is no manifest any more


TARGETS = {
    "gene_info": Target(write=write_gene_info, read=read_genes),
    "other NCBI files": Target(write=write_extra, read=read_extra),
    "data_report": Target(write=write_report, read=read_report),
    "tables of genes": Target(write=write_tables, read=read_tables),
    "vectors": Target(write=write_vectors, read=read_vectors),
    "lists and panels": Target(write=write_lists, read=read_lists),
    "store": Target(write=write_store, read=read_store, promise=promise_store),
    "saved model": Target(write=write_model, read=read_model, promise=promise_model),
    "h5ad": Target(write=write_h5ad, read=partial(read_stored, name="cells.h5ad")),
    "h5mu": Target(write=write_h5mu, read=partial(read_stored, name="cells.h5mu")),
    "10x h5": Target(write=write_10x_h5, read=partial(read_whole, name="cells.h5")),
    "10x mtx": Target(write=write_10x_mtx, read=read_whole),
    "zarr 2": Target(write=partial(write_zarr, version=2), read=partial(read_stored, name="cells.zarr")),
    "zarr 3": Target(write=partial(write_zarr, version=3), read=partial(read_stored, name="cells.zarr")),
    "loom": Target(write=write_loom, read=partial(read_whole, name="cells.loom")),
    "entrez": Target(write=write_entrez, read=read_entrez),
    "notes and keys": Target(write=write_notes, read=read_notes),
}
