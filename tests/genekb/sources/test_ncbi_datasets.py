"""Gene reports of NCBI Datasets: field by field, in both spellings, and what is refused."""

import json

import pytest

from genekb.core.errors import SourceUnusable
from genekb.sources.ncbi_datasets import read_datasets_report
from genekb.sources.open import read_source


def report(**changes):
    return {"geneId": "915", "symbol": "CD3D", "taxId": "9606", "type": "PROTEIN_CODING"} | changes


def write(folder, *lines):
    path = folder / "data_report.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def names_of(source):
    return {(row["kind"], row["name"]) for row in source.names.to_pylist()}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *[("PROTEIN_CODING", "protein-coding"), ("NCRNA", "ncRNA"), ("ncRNA", "ncRNA"), ("tRNA", "tRNA")],
        *[("snoRNA", "snoRNA"), ("miscRNA", "miscRNA"), ("PSEUDO", "pseudo"), ("OTHER", "other"), (None, None)],
    ],
)
def test_types_are_spelt_as_in_gene_info(tmp_path, given, expected):
    source = read_datasets_report(write(tmp_path, report(type=given)))
    assert source.genes["type"].to_pylist() == [expected]


def test_names_of_a_gene_are_those_of_its_report(tmp_path):
    line = report(
        synonyms=["T3D", "OKT3"], ensemblGeneIds=["ENSG00000167286.9"], replacedGeneId="777001", locusTag="LT_1",
        nomenclatureAuthority={"authority": "HGNC", "identifier": "HGNC:1673"}, mapLocations=["11q23.3"],
    )  # fmt: skip
    source = read_datasets_report(write(tmp_path, line))
    assert names_of(source) == {
        ("symbol", "CD3D"), ("alias", "T3D"), ("alias", "OKT3"), ("ensembl", "ENSG00000167286"),
        ("retired_id", "777001"), ("hgnc", "HGNC:1673"), ("locus_tag", "LT_1"),
    }  # fmt: skip
    assert source.genes["map_location"].to_pylist() == ["11q23.3"]


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ("MGI:88331", ("mgi", "MGI:88331")),
        ("RGD:2018", ("rgd", "2018")),
        ("ZFIN:ZDB-GENE-040718-1", ("zfin", "ZDB-GENE-040718-1")),
    ],
)
def test_identifiers_of_authorities_are_written_as_gene_info_has_them(tmp_path, identifier, name):
    source = read_datasets_report(write(tmp_path, report(nomenclatureAuthority={"identifier": identifier})))
    assert names_of(source) == {("symbol", "CD3D"), name}


def test_both_spellings_of_the_fields_give_the_same_tables(tmp_path):
    term = {"name": "immune response", "goId": "GO:0006955", "evidenceCode": "IDA", "qualifier": "involved_in"}
    camel = report(geneOntology={"biologicalProcesses": [term]}, ensemblGeneIds=["ENSG00000167286"])
    term = {"name": "immune response", "go_id": "GO:0006955", "evidence_code": "IDA", "qualifier": "involved_in"}
    snake = {
        "gene_id": 915, "symbol": "CD3D", "tax_id": 9606, "type": "PROTEIN_CODING",
        "gene_ontology": {"biological_processes": [term]}, "ensembl_gene_ids": ["ENSG00000167286"],
    }  # fmt: skip
    first = read_datasets_report(write(tmp_path, camel))
    second = read_datasets_report(write(tmp_path, snake))
    assert first.genes.equals(second.genes)
    assert first.names.equals(second.names)
    assert first.annotations.equals(second.annotations)
    assert first.annotations.num_rows == 1


def test_go_terms_are_annotations_once_and_without_those_that_are_denied(tmp_path):
    def term(number, evidence, qualifier="enables"):
        return {"name": f"term {number}", "goId": f"GO:{number}", "evidenceCode": evidence, "qualifier": qualifier}

    ontology = {
        "molecularFunctions": [term(1, "IEA"), term(1, "IPI"), term(2, "IDA", "NOT|enables")],
        "cellularComponents": [term(3, "HDA")],
    }
    source = read_datasets_report(write(tmp_path, report(geneOntology=ontology)))
    found = [(row["vocabulary"], row["term"], row["evidence"]) for row in source.annotations.to_pylist()]
    assert found == [("go_component", "term 3", "HDA"), ("go_function", "term 1", "IPI")]
    assert "CC BY 4.0" in source.licence
    assert "CC BY" not in read_datasets_report(write(tmp_path, report())).licence


def test_every_species_is_kept_where_all_or_none_is_named(tmp_path):
    path = write(tmp_path, report(), report(geneId="12500", symbol="Cd3d", taxId="10090"))
    every = read_source(path, taxa=["all"])
    assert every.genes.equals(read_datasets_report(path).genes)
    assert every.genes["tax_id"].to_pylist() == [9606, 10090]
    mouse = read_source(path, taxa=["mouse"])
    assert (mouse.genes["gene_id"].to_pylist(), mouse.dropped["other taxon or subspecies"]) == ([12500], 1)
    with pytest.raises(SourceUnusable, match="holds no gene of rat; is the taxon right"):
        read_source(path, taxa=["rat"])


@pytest.mark.parametrize("inside", ["", "ncbi_dataset", "ncbi_dataset/data"])
def test_a_release_is_called_after_the_folder_of_the_download(tmp_path, inside):
    folder = tmp_path / "human-2024-08" / "ncbi_dataset" / "data"
    folder.mkdir(parents=True)
    write(folder, report())
    source = read_source(tmp_path / "human-2024-08" / inside, taxa=["human"])
    assert source.release == "human-2024-08"
    assert read_source(folder / "data_report.jsonl", taxa=["human"], release="mine").release == "mine"


def test_optional_fields_of_another_kind_do_not_break_a_record(tmp_path):
    line = report(summary="no list", nomenclatureAuthority="HGNC:1673", synonyms="T3D", geneOntology=[])
    source = read_datasets_report(write(tmp_path, line))
    assert source.genes["summary"].to_pylist() == [None]
    assert names_of(source) == {("symbol", "CD3D"), ("alias", "T3D")}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (report(geneId="abc"), "line 2: no gene report .*; geneId is 'abc', a positive number of at most 18 digits"),
        (report(taxId=None), "line 2: no gene report .*; taxId is 'None', a positive number of at most 9 digits"),
        ({"accession": "GCF_1"}, "line 2: no gene report"),
        ({"reports": [{"errors": []}]}, "line 2: no gene report"),
        ([1], "line 2: a list, an object is needed"),
    ],
)
def test_a_line_that_is_no_gene_is_told_by_its_number(tmp_path, line, told):
    with pytest.raises(SourceUnusable, match=told):
        read_datasets_report(write(tmp_path, report(), line))
