"""Stores built again from a lock file alone: the same digest, or the source that changed."""

import gzip
import shutil
import tomllib

import pytest

import genekb
from genekb.encoders.kinds import asked_names
from tests.support.in_process import call, call_json
from tests.support.loopback import serving

INFO = "Homo_sapiens.gene_info.gz"


@pytest.fixture
def mirror(ncbi_folder):
    with serving(files={f"/{path.name}": path.read_bytes() for path in ncbi_folder.iterdir()}) as server:
        yield server


GENE2GO = "#tax_id\tGeneID\tGO_ID\tEvidence\tQualifier\tGO_term\tPubMed\tCategory\n" + "".join(
    f"9606\t{gene}\tGO:0042110\tIDA\tinvolved_in\tT cell activation\t-\tProcess\n" for gene in (915, 916)
)


@pytest.fixture(params=["source", "more"])
def locked(request, mirror, tmp_path):
    """Lock file of a store that was made of downloaded files, and its digest; the folder of the files is gone.

    With GO terms beside gene_info, which become annotations, or in another folder, for encoders alone.
    """
    source = tmp_path / "2022-11"
    genekb.download(source, mirror=mirror.url)
    terms = tmp_path / "more"
    terms.mkdir()
    with gzip.open((source if request.param == "source" else terms) / "gene2go.gz", "wt") as stream:
        stream.write(GENE2GO)
    (terms / "sets.gmt").write_text("one\t\tCD3D\tCD3E\ntwo\t\tCD3D\tINS\n")
    kb = genekb.build(
        source, annotations=terms, model=["hash-8", "wcp-8", "terms:sets,go", "mix:wcp-8=1,terms-sets-go=2"],
        only_genes=["CD3D", "CD3E", "INS", "MARCH1"], name="lab@1", home=tmp_path / "here",
    )  # fmt: skip
    genekb.lock(kb.folder, source=source, file=tmp_path / "genekb.lock")
    if request.param == "source":
        shutil.copy(source / "gene2go.gz", terms)
    shutil.rmtree(source)
    return tmp_path / "genekb.lock", terms, kb.manifest.digest


def test_a_lock_file_alone_makes_the_same_store_in_a_fresh_home(locked, mirror, tmp_path):
    lock, terms, digest = locked
    sources = tomllib.loads(lock.read_text())["store"][0]["build"]["sources"]
    assert {one["name"]: one.get("url", "") for one in sources} == {
        **{name: mirror.url + name for name in (INFO, "gene_summary.gz")}, "sets.gmt": "", "gene2go.gz": ""
    }  # fmt: skip
    assert all(one["last_modified"] for one in sources if one.get("url"))
    for home in ("one", "two"):
        made = call_json("genekb", "build", "--lock", lock, "--source", terms, "--home", tmp_path / home)["stores"]
        assert [one["digest"] for one in made] == [digest]


def test_a_source_that_changed_or_is_not_there_is_named(locked, mirror, tmp_path):
    lock, terms, _ = locked
    again = ("genekb", "build", "--lock", lock, "--home", tmp_path / "other")
    code, _, err = call(*again)
    assert (code, " is not here, and the lock file has no address" in err) == (4, True)
    mirror.files[f"/{INFO}"] = gzip.compress(gzip.decompress(mirror.files[f"/{INFO}"]).replace(b"insulin", b"Insulin"))
    code, _, err = call(*again[:-1], tmp_path / "third", "--source", terms)
    assert code == 5
    assert f"1 source of lab@1 changed since it was built: {INFO} (recorded sha256" in err
    assert genekb.list_stores(home=tmp_path / "third") == []


def test_what_was_not_made_in_one_build_is_pulled_and_not_built(tmp_path):
    home, lock = tmp_path / "home", tmp_path / "genekb.lock"
    genekb.build(model="hash-8", home=home)
    genekb.lock(genekb.encode("demo", "hash-16", home=home).folder, file=lock)
    code, _, err = call("genekb", "build", "--lock", lock, "--home", tmp_path / "other")
    assert (code, "does not say how demo@1 was built" in err) == (3, True)
    code, _, err = call("genekb", "build", "--lock", lock, "--name", "mine", "--min-resolved", "0.5", "--dry-run")
    assert (code, "leave out --min-resolved, --name, --dry-run" in err) == (2, True)


def test_encoders_are_asked_for_by_the_names_that_made_them():
    def recipe(name, kind, model_id, dim=8):
        return {"name": name, "kind": kind, "model_id": model_id, "dim": dim}

    minilm = "sentence-transformers/all-MiniLM-L6-v2"
    recipes = {
        "a": recipe("wcp", "wcp", "genekb/wcp"), "b": recipe("terms-go-links", "terms", "go,links"),
        "c": recipe("mix-wcp-go-links", "mix", "a=0.25,b=0.75"), "d": recipe("minilm", "transformer", minilm, 384),
        "e": recipe("minilm-64", "transformer", minilm, 64), "f": recipe("mine", "transformer", "lab/mine"),
    }  # fmt: skip
    mixed = "mix:wcp=0.25,terms-go-links=0.75"
    assert asked_names(recipes) == ["wcp", "terms:go,links", mixed, "minilm", "minilm@64", "lab/mine"]
    with pytest.raises(ValueError, match="made elsewhere"):
        asked_names({"a": recipe("genept", "foreign", "")})
