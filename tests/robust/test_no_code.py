"""No file that others made is run: models, vectors, caches and cell files that would leave a mark, and leave none."""

import ast
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.core.errors import EncoderFailed, GeneKBError, StoreCorrupt
from genekb.encoders import load_encoder
from genekb.encoders.imported.vectors import read_foreign
from genekb.files.atomic import sha256_file
from genekb.sources.ncbi_bulk import read_ncbi_folder

TEXTS = ["insulin, a hormone of the cell"]


@pytest.fixture
def mark(tmp_path):
    """A file that hostile code would make."""
    path = tmp_path / "mark"
    yield path
    assert not path.exists()


@pytest.fixture
def code(mark):
    """Python that makes the mark when it is imported."""
    return f"""
import pathlib
pathlib.Path({str(mark)!r}).touch()
from transformers import BertConfig as Config, BertModel as Model, BertTokenizerFast as Words
class Transformer(Model): pass
"""


@pytest.fixture
def model(tiny_model, tmp_path, code):
    """A model's folder, which a test makes hostile, with code beside it."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "evil.py").write_text(code)
    return folder


def change(path, **settings):
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | settings))


class Payload:
    """Makes the mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def test_the_payload_would_leave_a_mark(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "mark"))).close()
    assert (tmp_path / "mark").exists()


FOREIGN = r"module class 'evil\.\w+'.* only with trust_remote_code=True"
NO_MODULE = "which is none|cannot be loaded by sentence-transformers"


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        *(({"type": f"evil.{name}"}, EncoderFailed, FOREIGN) for name in ("Evil", "Transformer")),
        *(
            ({"type": f"sentence_transformers.{name}"}, EncoderFailed, NO_MODULE)
            for name in ("base.model.json", "base.model.torch", "util.misc.importlib", "nothing.Here")
        ),
        *(
            ({"path": path}, StoreCorrupt, "which is no folder of the model")
            for path in ("../elsewhere", "/etc", "a/../../b", "C:\\x")
        ),
    ],
)
def test_a_module_that_is_not_of_the_library_or_lies_elsewhere_is_refused(model, mark, module, error, message):
    usual = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    (model / "modules.json").write_text(json.dumps([usual | module]))
    with pytest.raises(error, match=message):
        load_encoder(str(model))


def test_a_configuration_that_needs_code_of_its_own_is_refused(model, mark):
    change(model / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"})
    with pytest.raises(EncoderFailed, match="cannot be loaded by sentence-transformers"):
        load_encoder(str(model))


def test_code_beside_a_model_of_a_known_kind_is_passed_over(model, mark):
    change(model / "config.json", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"})
    change(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Words", "evil.Words"]})
    assert load_encoder(str(model)).encode(TEXTS).vectors.shape == (1, 32)


@pytest.mark.parametrize("kernel", ["evil/kernels", "evil.py", "flash_attention_9"])
def test_attention_of_ones_own_is_not_loaded(model, mark, kernel):
    change(model / "config.json", attn_implementation=kernel)
    try:
        load_encoder(str(model))
    except EncoderFailed as error:
        assert "cannot be loaded by sentence-transformers" in str(error)  # noqa: PT017 - loading it plainly is as good


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare"])
def test_weights_that_are_a_pickle_are_not_unpickled(model, mark, kind):
    import torch

    (model / "model.safetensors").unlink()
    weights = model / "pytorch_model.bin"
    if kind == "bare":
        weights.write_bytes(pickle.dumps(Payload(mark), protocol=2))
    else:
        torch.save({"x": Payload(mark)}, weights, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(EncoderFailed, match="cannot be loaded by sentence-transformers"):
        load_encoder(str(model))


def test_static_vectors_bring_no_code(model, mark):
    (model / "modules.json").write_text(json.dumps([{"idx": 0, "path": "", "type": "evil.StaticEmbedding"}]))
    change(model / "config.json", model_type="model2vec", auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(GeneKBError):
        load_encoder(str(model))


@pytest.mark.parametrize("name", ["v.npy", "v.pkl", "v.pickle", "v.safetensors", "v.parquet"])
def test_vectors_that_are_a_pickle_are_not_unpickled(tmp_path, mark, name):
    if name == "v.npy":
        np.save(tmp_path / name, np.array([Payload(mark)], dtype=object), allow_pickle=True)
    else:
        (tmp_path / name).write_bytes(pickle.dumps({"CD3D": Payload(mark)}))
    with pytest.raises(GeneKBError):
        read_foreign(tmp_path / name)


def test_a_cache_of_vectors_that_is_a_pickle_is_made_anew(ncbi_folder, tmp_path, mark):
    source = read_ncbi_folder(ncbi_folder, taxa=["human"])
    folder = build(source, BuildConfig(name="human", models=("hash-8",)), home=tmp_path / "home").folder
    right = genekb.open("human", home=tmp_path / "home").vectors([915, 916]).vectors.copy()
    stamps = next((folder.parent / ".cache").rglob("stamps.json"))
    for path in stamps.parent.glob("*.npy"):
        np.save(path, np.array([Payload(mark)], dtype=object), allow_pickle=True)
        status = path.stat()
        change(
            stamps,
            **{path.stem: {"n_bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_file(path)}},
        )
    again = genekb.open("human", home=tmp_path / "home").vectors([915, 916]).vectors
    np.testing.assert_array_equal(again, right)


@pytest.mark.parametrize(
    "settings",
    [
        {"compressor": {"id": "pickle", "protocol": 5}},
        {"filters": [{"id": "pickle"}]},
        {"dtype": "|O", "filters": [{"id": "pickle"}], "fill_value": None},
        {"dtype": "|O", "filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle"}, "fill_value": None},
    ],
    ids=["compressor", "filter", "object", "text"],
)
@pytest.mark.filterwarnings("ignore")  # anndata says that it will write another version of zarr one day
def test_a_cell_file_in_zarr_that_asks_for_pickle_is_refused(tmp_path, mark, settings):
    import anndata
    import scipy.sparse as sp

    from cellmodel.core.errors import InputUnusable
    from cellmodel.io.cells import read_cells

    counts = sp.csr_matrix(np.random.default_rng(0).poisson(1.0, (6, 5)).astype(np.float32))
    cells = anndata.AnnData(counts, obs={"depth": np.arange(6.0)})
    with anndata.settings.override(zarr_write_format=2):
        cells.write_zarr(tmp_path / "cells.zarr")
    column = tmp_path / "cells.zarr" / "obs" / "depth"
    change(column / ".zarray", **({"filters": None, "compressor": None} | settings))
    (tmp_path / "cells.zarr" / ".zmetadata").unlink(missing_ok=True)
    (column / "0").write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(InputUnusable):
        read_cells(tmp_path / "cells.zarr")


@pytest.mark.parametrize("kind", ["model", "graph"])
def test_a_model_or_a_graph_of_cells_that_is_a_pickle_is_refused(kind, tmp_path, mark):
    from cellmodel.core.errors import CellModelError
    from cellmodel.io import read_graph
    from cellmodel.io.graph import ARRAYS, GRAPH
    from cellmodel.io.writers import MODEL
    from cellmodel.tl.model.fitted import load_model

    folder, read = {"model": (MODEL, load_model), "graph": (GRAPH, read_graph)}[kind]
    (tmp_path / ARRAYS).write_bytes(pickle.dumps(Payload(mark)))
    description = {"format": folder.format, "sha256": sha256_file(tmp_path / ARRAYS), "config": {}, "names": []}
    (tmp_path / folder.description).write_text(json.dumps(description))
    with pytest.raises(CellModelError):
        read(tmp_path)


TRUST = "trust_remote_code"


def program(*words):
    """Every module of ours that has one of these words, as a syntax tree."""
    root = Path(genekb.__file__).parents[1]
    for package in (root / "genekb", root / "cellmodel", root / "cli"):
        for path in package.rglob("*.py"):
            text = path.read_text()
            if any(word in text for word in words):
                yield path, ast.walk(ast.parse(text))


def defaults(node):
    """Defaults of the parameters and fields named trust_remote_code, as they are written; those without have none."""
    found = []
    if isinstance(node, ast.FunctionDef):
        found += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        found += zip(reversed(node.args.args), reversed(node.args.defaults), strict=False)
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        found.append((ast.arg(node.target.id), node.value))
    return [ast.unparse(value) for argument, value in found if argument.arg == TRUST and value is not None]


def test_code_of_a_model_is_allowed_by_the_callers_word_alone():
    found, given = [], []
    for _, nodes in program(TRUST):
        for node in nodes:
            found += defaults(node)
            given += [node.value] if isinstance(node, ast.keyword) and node.arg == TRUST else []
    assert len(found) > 10
    assert set(found) == {"False"}
    names = {ast.unparse(value) for value in given}
    assert names == {
        "code is not None", TRUST, f"self.{TRUST}",
        f"{TRUST} or self._{TRUST}",
    }  # fmt: skip


OPENERS = {"SentenceTransformer", "LocalModel", "WholeTransformer", "FloatTable.from_model2vec"}


def test_one_place_opens_models_and_only_after_their_code_was_hashed():
    opened, asked = [], []
    for path, nodes in program("from_pretrained", *OPENERS, "open_model"):
        for node in nodes:
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                opened += [(path.name, name)] * (name in OPENERS)
                asked += [path.name] * (name == "open_model")
                assert name == "nn.Embedding.from_pretrained" or not name.endswith("from_pretrained")
    assert {path for path, _ in opened} == {"engine.py"}
    assert {name for _, name in opened} == OPENERS
    assert asked == ["encoder.py"]


@pytest.mark.parametrize("kind", ["link", "bytes", "virtual"])
def test_a_cell_file_does_not_reach_into_other_files(tmp_path, kind):
    import anndata
    import h5py
    import scipy.sparse as sp

    from cellmodel.core.errors import InputUnusable
    from cellmodel.io.cells import read_cells

    path, secret = tmp_path / "cells.h5ad", tmp_path / "secret"
    counts = sp.csr_matrix(np.random.default_rng(0).poisson(1.0, (6, 5)).astype(np.float32))
    anndata.AnnData(counts, obs={"depth": np.arange(6.0)}).write_h5ad(path)
    with h5py.File(secret, "w") as file:
        file["values"] = np.arange(6.0)
    with h5py.File(path, "a") as file:
        del file["obs/depth"]
        if kind == "link":
            file["obs/depth"] = h5py.ExternalLink(secret, "values")
        elif kind == "bytes":
            file["obs"].create_dataset("depth", shape=(6,), dtype="u1", external=[(str(secret), 0, 6)])
        else:
            layout = h5py.VirtualLayout(shape=(6,), dtype="f8")
            layout[:] = h5py.VirtualSource(secret, "values", shape=(6,))
            file["obs"].create_virtual_dataset("depth", layout)
    with pytest.raises(InputUnusable, match=r"obs/depth of .*cells\.h5ad lies in another file, which is not read"):
        read_cells(path)
