"""Wrong vectors, stores and models that a user can hand over: one small maker per kind of ``data/bad/sources.toml``."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from safetensors.numpy import save_file

from genekb.files.atomic import canonical_json, sha256_file
from genekb.store.reader import Store
from tests.robust.bad_files.sources import kind

NAMES = ("INS", "GCG", "CD19")


def write_cells(path: Path, *, kb: Store) -> Path:
    """Write 60 cells with all symbols of a store, and with two clusters that differ."""
    rng = np.random.default_rng(0)
    symbols = sorted(set(kb.table("genes")["symbol"].to_pylist()))
    cluster = np.repeat([0, 1], 30)
    rates = 1 + 6 * ((np.arange(len(symbols)) % 2) == cluster[:, None])
    obs = pd.DataFrame({"cellmodel": pd.Categorical(cluster.astype(str))}, index=[f"cell{n}" for n in range(60)])
    counts = sp.csr_matrix(rng.poisson(rates).astype(np.float32))
    anndata.AnnData(X=counts, obs=obs, var=pd.DataFrame(index=symbols)).write_h5ad(path)
    return path


def word2vec(here: Path, *lines: str) -> None:
    (here / "words.txt").write_text("".join(f"{line}\n" for line in lines))


def matrix(here: Path, values: np.ndarray, *, names: str = "\n".join(NAMES)) -> None:
    np.save(here / "matrix.npy", values)
    (here / "names.txt").write_text(names + "\n")


@kind
def vectors_header_counts_wrong(here, base):
    word2vec(here, "3 2", "INS 1 2", "GCG 3 4")


@kind
def vectors_header_claims_a_terabyte(here, base):
    word2vec(here, "999999999 999999999", "INS 1 2")


@kind
def vectors_without_header(here, base):
    word2vec(here, "INS 1 2", "GCG 3 4")


@kind
def vectors_all_nan(here, base):
    word2vec(here, "2 2", "INS nan 2", "GCG inf 4")


@kind
def vectors_of_another_species(here, base):
    word2vec(here, "2 2", "Zzz3 1 2", "Gm12345 3 4")


@kind
def vectors_npy_with_objects(here, base):
    matrix(here, np.array([[{}, []], [1, 2], [3, 4]], dtype=object))


@kind
def vectors_npy_of_one_axis(here, base):
    matrix(here, np.arange(3.0))


@kind
def vectors_npy_fewer_names(here, base):
    matrix(here, np.ones((3, 2)), names="INS")


@kind
def vectors_npy_claims_a_terabyte(here, base):
    matrix(here, np.ones((3, 2)))
    raw = (here / "matrix.npy").read_bytes()
    (here / "matrix.npy").write_bytes(raw.replace(b"(3, 2), }" + b" " * 11, b"(300000000000, 2), }"))


@kind
def vectors_npz(here, base):
    with (here / "matrix.npy").open("wb") as stream:
        np.savez(stream, vectors=np.ones((3, 2)))
    (here / "names.txt").write_text("\n".join(NAMES))


@kind
def vectors_names_binary(here, base):
    matrix(here, np.ones((3, 2)))
    (here / "names.txt").write_bytes(bytes(range(256)))


class _Runs:
    """Runs a command where a pickle is loaded without care."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("import pathlib; pathlib.Path('executed').touch()",)


@kind
def vectors_pickle_with_code(here, base):
    (here / "vectors.pickle").write_bytes(pickle.dumps({"INS": _Runs()}))


@kind
def vectors_pickle_truncated(here, base):
    (here / "vectors.pickle").write_bytes(pickle.dumps({name: [0.5, 1.5] for name in NAMES})[:-30])


@kind
def vectors_parquet_ragged(here, base):
    pq.write_table(pa.table({"symbol": NAMES[:2], "vector": [[1.0, 2.0], [3.0]]}), here / "vectors.parquet")


@kind
def vectors_parquet_of_texts(here, base):
    pq.write_table(pa.table({"symbol": NAMES[:2], "vector": [["1"], ["2"]]}), here / "vectors.parquet")


@kind
def vectors_safetensors_damaged(here, base):
    save_file({"vectors": np.ones((3, 2), np.float32)}, here / "vectors.safetensors")
    raw = bytearray((here / "vectors.safetensors").read_bytes())
    raw[0:8] = (1 << 60).to_bytes(8, "little")
    (here / "vectors.safetensors").write_bytes(raw)
    (here / "names.txt").write_text("\n".join(NAMES))


@kind
def vectors_of_unknown_ending(here, base):
    (here / "vectors.h5").write_bytes(b"\x89HDF\r\n\x1a\n")


def copied(here: Path, base) -> Path:
    """A copy of the good store, under the name of its digest."""
    return Path(shutil.copytree(base.store, here / base.store.name))


def with_manifest(store: Path, change: Callable[[dict[str, Any]], None], *, signed: bool = True) -> None:
    """Change a manifest; its digest is made anew, so that only the content can tell that something is wrong."""
    content = json.loads((store / "manifest.json").read_text(encoding="utf-8"))
    change(content)
    if signed:
        kept = {name: value for name, value in content.items() if name not in {"digest", "created_at", "created_by"}}
        content["digest"] = hashlib.sha256(canonical_json(kept).encode()).hexdigest()
    (store / "manifest.json").write_text(json.dumps(content), encoding="utf-8")


def with_files(store: Path) -> None:
    """Let the manifest promise the files as they are now."""

    def restate(content: dict[str, Any]) -> None:
        for entry in content["files"]:
            path = store / entry["path"]
            entry |= {"n_bytes": path.stat().st_size, "sha256": sha256_file(path)}

    with_manifest(store, restate)


def flipped(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@kind
def store_manifest_missing(here, base):
    (copied(here, base) / "manifest.json").unlink()


@kind
def store_manifest_no_json(here, base):
    (copied(here, base) / "manifest.json").write_text('{"schema_version": 2,')


@kind
def store_manifest_a_list(here, base):
    (copied(here, base) / "manifest.json").write_text("[]")


@kind
def store_manifest_latin_1(here, base):
    path = copied(here, base) / "manifest.json"
    path.write_bytes(path.read_bytes() + b"\xe9")


@kind
def store_manifest_deep(here, base):
    (copied(here, base) / "manifest.json").write_text("[" * 100_000)


@kind
def store_digest_changed(here, base):
    with_manifest(copied(here, base), lambda content: content.update(release="2023-01"), signed=False)


@kind
def store_of_a_future_version(here, base):
    with_manifest(copied(here, base), lambda content: content.update(schema_version=99))


@kind
def store_file_outside(here, base):
    with_manifest(copied(here, base), lambda content: content["files"][0].update(path="../../etc/passwd"))


@kind
def store_file_missing(here, base):
    (copied(here, base) / "names.parquet").unlink()


@kind
def store_byte_flipped(here, base):
    flipped(copied(here, base) / "genes.parquet")


@kind
def store_vectors_byte_flipped(here, base):
    flipped(next((copied(here, base) / "embeddings").glob("hash-16-*/part-00000.parquet")))


@kind
def store_table_truncated_and_promised(here, base):
    store = copied(here, base)
    (store / "names.parquet").write_bytes((store / "names.parquet").read_bytes()[:-100])
    with_files(store)


@kind
def store_encoder_without_files(here, base):
    store = copied(here, base)
    with_manifest(store, lambda content: content["encoders"].update({"ghost-8": content["encoders"][_wcp(content)]}))


def _wcp(content: dict[str, Any]) -> str:
    return next(name for name in content["encoders"] if name.startswith("wcp"))


@kind
def store_vectors_of_another_dim(here, base):
    store = copied(here, base)
    path = next((store / "embeddings").glob("hash-16-*/part-00000.parquet"))
    rows = pq.read_table(path)
    short = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(8 * len(rows), np.float16)), 8)
    pq.write_table(rows.drop_columns(["vector"]).append_column("vector", short), path)
    with_files(store)


@kind
def wcp_state_truncated(here, base):
    store = copied(here, base)
    path = next((store / "embeddings").glob("wcp-*/wcp.safetensors"))
    path.write_bytes(path.read_bytes()[:-64])
    with_files(store)


@kind
def wcp_state_no_vocabulary(here, base):
    store = copied(here, base)
    next((store / "embeddings").glob("wcp-*/wcp-vocabulary.json")).write_text("7")
    with_files(store)


@kind
def model_folder_without_weights(here, base):
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text('{"model_type": "bert", "hidden_size": 32}')


@kind
def model_folder_config_no_json(here, base):
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text("{")
    (here / "model" / "model.safetensors").write_bytes(b"")


def saved(here: Path, base) -> Path:
    return Path(shutil.copytree(base.model, here / "model"))


def described(model: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((model / "model.json").read_text(encoding="utf-8"))
    change(content)
    (model / "model.json").write_text(json.dumps(content), encoding="utf-8")


@kind
def saved_model_without_description(here, base):
    (saved(here, base) / "model.json").unlink()


@kind
def saved_model_deep(here, base):
    (saved(here, base) / "model.json").write_text("[" * 100_000)


@kind
def saved_model_of_a_future_format(here, base):
    described(saved(here, base), lambda content: content.update(format=99))


@kind
def saved_model_arrays_truncated(here, base):
    path = saved(here, base) / "arrays.safetensors"
    path.write_bytes(path.read_bytes()[:-64])


@kind
def saved_model_fewer_names(here, base):
    described(saved(here, base), lambda content: content.update(names=content["names"][:3]))


@kind
def saved_model_of_another_store(here, base):
    saved(here, base)
