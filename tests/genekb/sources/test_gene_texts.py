"""Texts beside NCBI's: each format as its publisher writes it, genes by id or name, and what is refused."""

import gzip
import json

import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.core.errors import SourceUnusable
from genekb.genes.texts import prose_of
from genekb.sources.gene_texts import add_gene_texts, find_text_files
from genekb.sources.open import read_source
from genekb.sources.table import read_demo_table
from tests.support.in_process import call, call_json

STRING = """#string_protein_id\tpreferred_name\tprotein_size\tannotation
9606.ENSP00000300692\tCD3D\t171\tT-cell surface glycoprotein CD3 delta chain; Part of the TCR-CD3 complex {ECO:1}. [...]
9606.ENSP00000278312\tMS4A1\t297\tB-lymphocyte antigen CD20; Acts on B-cells (PubMed:3925015, PubMed:7684739).
9606.ENSP00000261267\tLYZ\t148\tannotation not available
10090.ENSMUSP00000034602\tCd3d\t173\tOf the mouse.
"""
UNIPROT_TSV = """Entry\tGeneID\tGene Names (primary)\tOrganism (ID)\tFunction [CC]
P04234\t915;\tCD3D\t9606\tFUNCTION: Part of the TCR-CD3 complex (PubMed:2470098). {ECO:0000269|PubMed:2470098}.
P11836\t\tMS4A1\t9606\tFUNCTION: [Isoform 1]: Acts on B-cells.
P61626\t4069;\tLYZ\t9606\t
"""
UNIPROT_FLAT = """ID   CD3D_HUMAN              Reviewed;         171 AA.
AC   P04234; A8MVP6;
DT   20-MAR-1987, integrated into UniProtKB/Swiss-Prot.
DE   RecName: Full=T-cell surface glycoprotein CD3 delta chain;
GN   Name=CD3D; Synonyms=T3D;
OS   Homo sapiens (Human).
OC   Eukaryota.
OX   NCBI_TaxID=9606;
CC   -!- FUNCTION: Part of the TCR-CD3 complex present on T-lymphocyte cell
CC       surface (PubMed:2470098). {ECO:0000269|PubMed:2470098}.
CC   -!- SUBUNIT: Heterodimer.
DR   GeneID; 915; -.
SQ   SEQUENCE   4 AA;  400 MW;  0000000000000000 CRC64;
     MEHS
//
"""
ENTRY = {
    "primaryAccession": "P04234",
    "organism": {"taxonId": 9606},
    "comments": [
        {"commentType": "FUNCTION", "texts": [{"value": "Part of the TCR-CD3 complex (PubMed:2470098)."}]},
        {"commentType": "SUBUNIT", "texts": [{"value": "Heterodimer."}]},
    ],
    "uniProtKBCrossReferences": [{"database": "GeneID", "id": "915"}, {"database": "PDB", "id": "1XIW"}],
}
ALLIANCE = """########
# Data type: Gene Descriptions
########
HGNC:1673\tCD3D\tPart of alpha-beta T cell receptor complex.
HGNC:6740\tLYZ\tNo description available
"""
PART = "Part of the TCR-CD3 complex"
STRING_TEXTS = {
    915: [f"T-cell surface glycoprotein CD3 delta chain; {PART}."],
    931: ["B-lymphocyte antigen CD20; Acts on B-cells."],
}
FILES = {
    "9606.protein.info.v12.0.txt": (STRING, STRING_TEXTS),
    "uniprot_human.tsv": (UNIPROT_TSV, {915: ["Part of the TCR-CD3 complex."], 931: ["Acts on B-cells."]}),
    "uniprot_sprot_human.dat": (UNIPROT_FLAT, {915: [f"{PART} present on T-lymphocyte cell surface."]}),
    "uniprot.json": (json.dumps({"results": [ENTRY]}), {915: ["Part of the TCR-CD3 complex."]}),
    "GENE-DESCRIPTION-TSV_HUMAN.tsv": (ALLIANCE, {915: ["Part of alpha-beta T cell receptor complex."]}),
    "mine.csv": ('gene_id,text\n915,"Binds, and signals."\n', {915: ["Binds, and signals."]}),
    "mine.tsv": ("symbol\ttext\nT3D\tBy an alias.\n", {915: ["By an alias."]}),
}  # fmt: skip


def texts_of(tables):
    found = {}
    for row in tables.annotations.to_pylist():
        if row["vocabulary"] in {"function", "description"}:
            found.setdefault(row["gene_id"], []).append(row["term"])
    return found


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_each_format_is_recognized_and_read_without_citations(tmp_path, name, packed):
    content, expected = FILES[name]
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    tables = add_gene_texts(read_demo_table(), [path])
    assert texts_of(tables) == expected
    assert tables.files[-1].name == path.name
    assert tables.files[-1].n_rows_kept == len(expected)


def test_files_in_the_folder_of_a_source_are_found_by_name(tmp_path, ncbi_folder):
    for name, (content, _) in FILES.items():
        (tmp_path / name).write_text(content)
    assert {path.name for path in find_text_files(tmp_path)} == set(FILES) - {"mine.csv", "mine.tsv"}


def test_a_store_with_functions_has_them_in_its_texts_and_prose(tmp_path):
    path = tmp_path / "uniprot_human.tsv"
    path.write_text(UNIPROT_TSV)
    source = read_source(find_demo(), taxa=["human"], texts=[path])
    kb = genekb.open(build(source, BuildConfig(name="f", models=()), home=tmp_path).folder)
    assert kb.manifest.template == {"number": 9, "name": "functions"}
    assert "UniProt: CC BY 4.0" in kb.manifest.licences[0]
    (text,) = kb.texts([915])
    assert prose_of(text).endswith("Part of the TCR-CD3 complex.")
    without = build(read_source(find_demo(), taxa=["human"]), BuildConfig(name="g", models=()), home=tmp_path)
    assert genekb.open(without.folder).manifest.template["name"] == "summary"


def test_few_known_genes_are_taken_where_a_build_says_so(tmp_path):
    path = tmp_path / "functions.tsv"
    path.write_text("symbol\ttext\nNOPE1\tx\nNOPE2\ty\nCD3D\tPart of a complex.\n")
    with pytest.raises(SourceUnusable, match="33% of 3 texts"):
        genekb.build(texts=path, model=[], name="f@1", home=tmp_path)
    kb = genekb.build(texts=path, model=[], name="f@1", min_resolved=0.3, home=tmp_path)
    assert kb.texts([915])[0].endswith("Part of a complex.")


def find_demo():
    from pathlib import Path

    return Path(genekb.__file__).parent / "sources" / "demo_genes.tsv"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "gene\tfunction\nCD3D\tx\n", r"has the columns 'gene, function'; give .* table with gene_id"),
        ("b.tsv", "symbol\ttext\nCD3D\n", r"is damaged"),
        ("c.tsv", "symbol\ttext\nNOPE1\tx\nNOPE2\ty\nCD3D\tz\n", r"33% of 3 texts are of a gene .*'NOPE1' is unknown"),
        ("10090.protein.info.v12.0.txt", STRING.splitlines()[0] + "\n" + STRING.splitlines()[4] + "\n",
         r"holds no text of a gene of the species 9606"),
        ("d.json", '{"entries": []}', r"is damaged \('results'\)"),
        ("e.dat", "ID   CD3D_HUMAN\nnonsense\n", r"is damaged"),
        ("f.tsv.gz", "symbol\ttext\n", r"cannot be read as text"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_texts_is_refused_with_what_was_found(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceUnusable, match=message):
        add_gene_texts(read_demo_table(), [tmp_path / name])


def test_the_command_takes_further_texts(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(FILES["mine.csv"][0])
    made = call_json("genekb", "build", "--model", "hash-8", "--texts", path, "--name", "t@1", "--home", tmp_path)
    kb = genekb.open(made["path"])
    text = kb.texts([915])[0]
    assert text.count("Binds, and signals.") == 1
    assert kb.cite(text, "Binds, and signals.").startswith("Binds, and signals. [")
    assert kb.cite(text, "deficiency causes severe combined immunodeficiency.").endswith(" [summary]")
    assert kb.cite(text, "A sentence of nobody.") == "A sentence of nobody."
    code, _, err = call("genekb", "build", "--model", "hash-8", "--texts", tmp_path / "no.tsv", "--home", tmp_path)
    assert (code, "no.tsv does not exist" in err) == (3, True)
