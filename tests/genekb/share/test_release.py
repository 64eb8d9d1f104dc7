"""`make stores`: what it leaves can be checked, pulled and loaded."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import genekb
from genekb.share.signing import PASSWORD_VARIABLE
from tests.support.in_process import call_json

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent


def stores(source, folder, **environment):
    options = f"--taxon human --model hash-16 --home {folder}/home --output {folder}/release"
    line = ["make", "-o", ".venv/.demo", f"BIN={BIN}", "stores", f"SOURCE={source}", f"OPTIONS={options}"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    return subprocess.run(
        line, cwd=ROOT, env=os.environ | {"PYTHONPATH": path} | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("make") and (BIN / "genekb").exists()), reason="needs make, and genekb installed")
def test_the_assets_of_a_release_are_signed_stores_and_their_vectors(ncbi_folder, tmp_path, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    public = genekb.keygen(tmp_path / "key")
    done = stores(ncbi_folder, tmp_path, GENEKB_SIGN_KEY=str(tmp_path / "key"))
    assert done.returncode == 0, done.stderr
    release, name = tmp_path / "release", f"human-{ncbi_folder.name}"
    for line in (release / "SHA256SUMS").read_text().splitlines():
        digest, file = line.split("  ")
        assert hashlib.sha256((release / file).read_bytes()).hexdigest() == digest
        assert f"| `{file}` | {(release / file).stat().st_size:,} | `{digest}` |" in (release / "stores.md").read_text()
    with tarfile.open(release / f"{name}.tar") as archive:
        archive.extractall(tmp_path / "elsewhere", filter="data")
    address = str(tmp_path / "elsewhere" / name)
    kb = genekb.pull(address, public_key=str(public), home=tmp_path / "other")
    assert f"| yes | `{kb.manifest.digest}` |" in (release / "stores.md").read_text()
    content = call_json("genekb", "pull", "human", "--catalog", release, "--home", tmp_path / "third")
    assert content["digest"] == kb.manifest.digest
    assert {"README.md", "croissant.json", "manifest.json.minisig"} <= {file.name for file in kb.folder.iterdir()}
    embeddings = json.loads((release / f"{name}.hash-16.json").read_text())
    np.testing.assert_array_equal(np.float32(embeddings["CD3D"]), kb.vectors(["CD3D"]).vectors[0])
    assert set(pq.read_table(release / f"{name}.hash-16.parquet")["symbol"].to_pylist()) >= embeddings.keys()
    page, zenodo = (release / f"{name}.md").read_text(), json.loads((release / f"{name}.zenodo.json").read_text())
    assert all(
        part in page
        for part in ("## Citation", kb.manifest.digest, public.read_text().strip(), "genekb compare human@")
    )
    assert (zenodo["upload_type"], zenodo["version"]) == ("dataset", ncbi_folder.name)
    again = stores(ncbi_folder, tmp_path / "again", LOCK=str(release / "genekb.lock"))
    assert again.returncode == 0, again.stderr
    assert kb.manifest.digest in (tmp_path / "again" / "release" / "stores.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("make") and (BIN / "genekb").exists()), reason="needs make, and genekb installed")
def test_a_store_without_a_key_is_reported_as_unsigned_and_a_failed_build_ends_it(ncbi_folder, tmp_path):
    done = stores(ncbi_folder, tmp_path, GENEKB_SIGN_KEY="")
    assert "is not signed: GENEKB_SIGN_KEY names no key" in done.stdout
    assert "| no |" in (tmp_path / "release" / "stores.md").read_text()
    assert stores(tmp_path / "nosuch", tmp_path).returncode != 0
