"""Fixtures that several packages share: a folder that looks like a mirror of NCBI's gene/DATA, and the real data."""

import gzip
import os
import signal
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the commands do; before any numerical library is loaded

import pytest
from hypothesis import settings

settings.register_profile("quick", max_examples=10, deadline=None)
settings.register_profile("nightly", max_examples=200, deadline=None)  # asked for by --hypothesis-profile
settings.load_profile("quick")

# What a shell starts in the background, or by nohup, ignores these; the tests send them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

DATA = Path(__file__).parent / "data"
SUMMARIES = {
    (
        "9606",
        "915",
    ): "Signalling subunit of the T cell receptor complex on T lymphocytes. [provided by RefSeq, Jul 2008].",
    ("9606", "916"): "Signalling subunit of the T cell receptor that carries activation into T lymphocytes.",
    ("9606", "930"): "Coreceptor that lowers the threshold of B cell activation by antigen.",
    ("9606", "931"): "Surface molecule of B cells that takes part in their calcium entry and activation.",
    ("9606", "2641"): "Hormone of pancreatic alpha cells that raises blood glucose.",
    ("9606", "3630"): "Hormone of pancreatic beta cells that lowers blood glucose.",
    ("9606", "4069"): "Enzyme of monocytes and neutrophils that cuts bacterial cell walls.",
    ("9606", "5473"): "Chemokine that platelets release to attract neutrophils.",
    ("10090", "12500"): "Mouse subunit of the T cell receptor complex.",
}


def write_release(folder: Path, release: str) -> Path:
    """Write one release in NCBI's formats, gzipped."""
    target = folder / release
    target.mkdir()
    tables = {
        "Homo_sapiens.gene_info.gz": (DATA / f"ncbi/human_gene_info_{release}.tsv").read_text(),
        "Mus_musculus.gene_info.gz": (DATA / "ncbi/mouse_gene_info_2022-11.tsv").read_text(),
        "gene_orthologs.gz": (DATA / "ncbi/gene_orthologs.tsv").read_text(),
        "gene_summary.gz": "#tax_id\tGeneID\tSource\tSummary\n"
        + "".join(f"{tax}\t{gene}\tRefSeq\t{text}\n" for (tax, gene), text in SUMMARIES.items()),
    }
    for name, text in tables.items():
        with gzip.open(target / name, "wt", encoding="utf-8") as stream:
            stream.write(text)
    return target


@pytest.fixture(scope="session")
def ncbi_folder(tmp_path_factory):
    """A small mirror of NCBI's gene/DATA, release 2022-11."""
    return write_release(tmp_path_factory.mktemp("ncbi"), "2022-11")


@pytest.fixture(scope="session")
def old_ncbi_folder(tmp_path_factory):
    """The same mirror, release 2020-01."""
    return write_release(tmp_path_factory.mktemp("ncbi"), "2020-01")


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory):
    """Give the store of the demo's genes with some encoders, built once; tests that share it add nothing to it."""
    import genekb

    @cache
    def opened(*models):
        config = genekb.BuildConfig(name="demo", models=models)
        return genekb.open(genekb.build(genekb.read_demo_table(), config, home=tmp_path_factory.mktemp("demo")).folder)

    return opened


@pytest.fixture(scope="session")
def demo_kb(demo_store):
    """The demo store, encoded by wcp-32."""
    return demo_store("wcp-32")


@pytest.fixture(scope="session")
def demo_home(demo_kb):
    """The folder of stores that holds the demo store alone."""
    return demo_kb.folder.parents[2]


@pytest.fixture(scope="session")
def real_data():
    """Folder of real NCBI files and labeled cells; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("GENEKB_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "ncbi").is_dir():
        pytest.skip(f"no real data in {folder}; set GENEKB_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A real, tiny BERT in a plain transformers folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    folder.mkdir()
    letters = [piece for char in "abcdefghijklmnopqrstuvwxyz0123456789" for piece in (char, f"##{char}")]
    words = ["cell", "of", "hormone", "insulin", "blood", "glucose", ".", ":"]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters]))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
