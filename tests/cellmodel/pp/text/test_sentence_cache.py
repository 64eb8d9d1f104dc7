"""Sentences kept on disk: the same bytes with and without, after a kill, beside damage, and by two runs at once."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genekb
from cellmodel.pp.text import sentences
from cellmodel.pp.text.sentences import BATCH, read_sentences, sentence_folder
from genekb.encoders import load_encoder
from genekb.query.gc import gc

SENTENCES = [f"GENE{number} GENE{number % 7} MT-{number % 11}" for number in range(2 * BATCH + 300)]
KILLED = """
import os, signal, sys
from pathlib import Path
from cellmodel.pp.text.sentences import read_sentences
from genekb.encoders import load_encoder
from tests.cellmodel.pp.text.test_sentence_cache import SENTENCES

class Dying:
    def __init__(self, encoder): self.encoder, self.spec, self.calls = encoder, encoder.spec, 0
    def encode(self, texts):
        self.calls += 1
        if self.calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.encoder.encode(texts)

read_sentences(SENTENCES, Dying(load_encoder("hash-64")), folder=Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("hash-64")


@pytest.fixture(scope="module")
def expected(encoder):
    return encoder.encode(SENTENCES).vectors


def test_kept_vectors_are_the_encoder_s_own_to_the_byte_and_nothing_is_read_twice(encoder, expected, tmp_path):
    first = read_sentences(SENTENCES, encoder, folder=tmp_path)
    second = read_sentences(SENTENCES, encoder, folder=tmp_path)
    without = read_sentences(SENTENCES, encoder, folder=None)
    assert (first.n_encoded, second.n_encoded, without.n_encoded) == (len(SENTENCES), 0, len(SENTENCES))
    for read in (first, second, without):
        assert read.vectors.tobytes() == expected.tobytes()
        np.testing.assert_array_equal(read.n_tokens, first.n_tokens)
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet"}


@settings(deadline=None)
@given(order=st.permutations(range(40)), n_kept=st.integers(0, 40))
def test_the_order_given_and_what_was_kept_before_change_nothing(encoder, expected, tmp_path_factory, order, n_kept):
    folder = tmp_path_factory.mktemp("sentences")
    read_sentences(SENTENCES[:n_kept], encoder, folder=folder)
    found = read_sentences([SENTENCES[row] for row in order], encoder, folder=folder)
    assert found.n_encoded == 40 - n_kept
    assert found.vectors.tobytes() == expected[order].tobytes()


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_batches_that_it_had(encoder, expected, tmp_path):
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path], cwd=root, env={"PYTHONPATH": str(root)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    found = read_sentences(SENTENCES, encoder, folder=tmp_path)
    assert found.n_encoded == len(SENTENCES) - 2 * BATCH
    assert found.vectors.tobytes() == expected.tobytes()


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "a bit changed": lambda content: (
        content[: (at := len(content) // 2)] + bytes([content[at] ^ 1]) + content[at + 1 :]
    ),
    "no parquet": lambda _: b"sentences",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_told_and_read_again(encoder, expected, tmp_path, caplog, damage):
    read_sentences(SENTENCES, encoder, folder=tmp_path)
    path = sorted(tmp_path.iterdir())[0]
    path.write_bytes(damage(path.read_bytes()))
    found = read_sentences(SENTENCES, encoder, folder=tmp_path)
    assert "is damaged" in caplog.text
    assert found.vectors.tobytes() == expected.tobytes()
    assert 0 < found.n_encoded <= BATCH
    assert read_sentences(SENTENCES, encoder, folder=tmp_path).n_encoded == 0


def test_sentences_of_another_encoder_are_not_used(encoder, tmp_path, caplog):
    read_sentences(SENTENCES[:5], encoder, folder=tmp_path)
    other = load_encoder("hash-32")
    found = read_sentences(SENTENCES[:5], other, folder=tmp_path)
    assert f"of encoder '{encoder.spec.encoder_id}'" in caplog.text
    assert found.vectors.tobytes() == other.encode(SENTENCES[:5]).vectors.tobytes()


def test_runs_at_once_share_a_folder(encoder, expected, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(read_sentences, SENTENCES, encoder, folder=tmp_path) for _ in range(4)]
    assert all(job.result().vectors.tobytes() == expected.tobytes() for job in jobs)
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet"}
    assert read_sentences(SENTENCES, encoder, folder=tmp_path).n_encoded == 0


def test_a_folder_that_cannot_be_written_is_told_once_and_done_without(encoder, expected, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    found = read_sentences(SENTENCES, encoder, folder=tmp_path / "file" / "sentences")
    assert found.vectors.tobytes() == expected.tobytes()
    assert caplog.text.count("sentences are not kept") == 1


def test_a_sentence_given_twice_is_refused(encoder):
    with pytest.raises(ValueError, match="1 of 3 sentences are given twice"):
        read_sentences(["A", "B", "A"], encoder, folder=None)


def test_progress_counts_up_to_all_sentences(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(sentences, "QUIET_S", -1.0)
    read_sentences(SENTENCES[:100], encoder, folder=tmp_path)
    told = []
    read_sentences(SENTENCES, encoder, folder=tmp_path, progress=lambda *step: told.append(step))
    total = len(SENTENCES)
    assert told == [("sentences", done, total) for done in (100 + BATCH, 100 + 2 * BATCH, total)]


def test_the_cache_lies_in_the_store_s_home_and_gc_leaves_it_alone(encoder, tmp_path):
    config = genekb.BuildConfig(name="demo", models=("hash-64",))
    kb = genekb.open(genekb.build(genekb.read_demo_table(), config, home=tmp_path).folder)
    folder = sentence_folder(kb, kb.encoder_id())
    assert folder == tmp_path / "cache" / "sentences" / kb.encoder_id()
    read_sentences(SENTENCES[:3], encoder, folder=folder)
    collected = gc(home=tmp_path, superseded=True, dry_run=False)
    assert collected.removed == ()
    assert read_sentences(SENTENCES[:3], encoder, folder=folder).n_encoded == 0
