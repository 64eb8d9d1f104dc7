"""Ctrl-C, SIGTERM, a closed terminal, a reader that went away: what is done is kept, and one line says how to go on."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.loopback import Fault, serving
from tests.support.processes import ROOT, call, start

INFO = "/Homo_sapiens.gene_info.gz"
ENVIRONMENT = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'cli'}", OMP_NUM_THREADS="1")

# A command that says where it is, and does in the end what its argument says.
WAITING = """
import sys, time
import typer
from genekb.core.resources import note_on_interrupt
from genekb_cellmodel_cli.app.running import run
app = typer.Typer()
@app.command()
def wait(how: str) -> None:
    try:
        with note_on_interrupt("half is kept"):
            print("ready", flush=True)
            time.sleep(60)
    except KeyboardInterrupt as error:
        if how == "slow":
            print("cleaning", flush=True)
            time.sleep(60)
        if how == "quick":
            time.sleep(0.4)
            print("cleaned", flush=True)
        if how == "error":
            raise RuntimeError("computation interrupted") from error
        if how == "finish":
            return
        raise
run(app, "waiting")
"""


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def run_waiting(how, **settings):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=ENVIRONMENT, **settings,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_signal_ends_a_command_with_130_and_one_line(name):
    process = run_waiting("stop")
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == "waiting: interrupted; half is kept\n"


def test_an_error_that_a_library_makes_of_an_interrupt_is_an_interrupt():
    process = run_waiting("error")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "waiting: interrupted; half is kept\n")


def test_a_command_that_comes_to_its_end_all_the_same_has_done_its_work():
    process = run_waiting("finish")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0


def test_two_signals_at_once_are_one_and_the_cleaning_is_finished():
    process = run_waiting("quick")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "cleaned\n", "waiting: interrupted; half is kept\n")


def test_a_second_interrupt_ends_a_cleaning_that_takes_long():
    process = run_waiting("slow")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning\n"
    time.sleep(1.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith("waiting: interrupted; every file that was written is whole")
    assert err.count("\n") == 1


def test_a_closed_terminal_is_nothing_to_a_command_under_nohup():
    process = run_waiting("stop", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_imports_leave_the_handlers_of_a_program_alone():
    code = (
        "import signal\n"
        "names = ('SIGINT', 'SIGTERM', 'SIGHUP')\n"
        "before = [signal.getsignal(getattr(signal, name)) for name in names]\n"
        "import genekb, cellmodel, genekb_cellmodel_cli.genekb, genekb_cellmodel_cli.cellmodel\n"
        "assert [signal.getsignal(getattr(signal, name)) for name in names] == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRONMENT)


def test_an_interrupt_while_a_program_still_loads_is_one_line(tmp_path):
    (tmp_path / "typer.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    environment = ENVIRONMENT | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"}
    process = subprocess.Popen(
        [sys.executable, "-c", "from genekb_cellmodel_cli.entry import genekb; genekb()"], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "genekb: interrupted; nothing has been done yet\n")


@pytest.fixture
def mirror(ncbi_folder):
    """A mirror of NCBI that stops in the middle of the first file until its gate is opened."""
    files = {f"/{path.name}": path.read_bytes() for path in ncbi_folder.iterdir()}
    gate = threading.Event()
    with serving(files=files) as server:
        server.faults[INFO] = [Fault(cut_after=len(files[INFO]) // 2, gate=gate)]
        yield server
        gate.set()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_download_that_is_interrupted_keeps_what_has_arrived(mirror, tmp_path, name):
    args = ["download", tmp_path / "new", "--mirror", mirror.url]
    process = start("genekb", *args)
    part = tmp_path / "new" / f"{INFO[1:]}.part"
    wait_for(lambda: part.exists() and part.stat().st_size, process)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "genekb: interrupted; what has arrived is kept, the same command goes on where it was\n"
    assert part.stat().st_size == len(mirror.files[INFO]) // 2
    code, _, err = call("genekb", *args)
    assert code == 0, err
    assert (tmp_path / "new" / INFO[1:]).read_bytes() == mirror.files[INFO]
    assert list((tmp_path / "new").glob("*.part*")) == []


@pytest.mark.parametrize("words", ["--help", "info --models"])
def test_a_reader_that_goes_away_is_no_error(words):
    with start("genekb", *words.split()) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (141, "")


def test_a_full_disk_behind_stdout_is_one_line():
    code = "from genekb_cellmodel_cli.genekb import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, "info", "--models"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            check=False,
        )
    assert done.returncode == 4
    assert done.stderr == "genekb: error: stdout cannot be written: No space left on device\n"


def test_a_file_of_cells_is_whole_or_absent_whenever_its_writing_is_interrupted(tmp_path):
    code = """
import os, signal, sys, threading, time
from pathlib import Path
import anndata, numpy as np, scipy.sparse as sp
from cellmodel.io.writers import write_cells
output = Path(sys.argv[1])
adata = anndata.AnnData(sp.random(5000, 1000, density=0.1, format="csr", dtype=np.float32, random_state=0))
started = time.perf_counter()
write_cells(adata, output)
seconds = time.perf_counter() - started
for number in range(8):
    output.unlink(missing_ok=True)
    timer = threading.Timer(seconds * number / 8, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        write_cells(adata, output)
        timer.join()
        time.sleep(0.01)
    except KeyboardInterrupt:
        pass
    assert [path.name for path in output.parent.iterdir()] in ([], [output.name])
    if output.exists():
        assert (anndata.read_h5ad(output).X != adata.X).nnz == 0
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cells.h5ad")], env=ENVIRONMENT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def children_of(process):
    """Numbers of all processes that a process has started, directly or not."""
    found = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in path.read_text().split():
            found += [int(child), *children_of(int(child))]
    return found


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def end_with_children(process, number, *, n_children, within_s=20):
    """Interrupt a command when it has started its workers; all of them have to be gone soon after."""
    wait_for(lambda: len(children_of(process.pid)) >= n_children, process)
    time.sleep(3)
    children = children_of(process.pid)
    process.send_signal(number)
    _, err = process.communicate(timeout=40)
    deadline = time.monotonic() + within_s
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, children))
    return process.returncode, err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_workers_of_ray_end_with_their_parent(tiny_model, tmp_path, name):
    args = ["build", "--model", tiny_model, "--engine", "ray", "--workers", "1", "--home", tmp_path]
    process = start("genekb", *args)
    # Ray's agents that were just starting wait a minute for the cluster that is gone.
    code, err = end_with_children(process, getattr(signal, name), n_children=3, within_s=120)
    assert code == 130, err
    assert err.splitlines()[-1].startswith("genekb: interrupted; finished shards are kept")
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_pull_from_a_server_that_is_silent_is_interrupted_at_once(ncbi_folder, tmp_path):
    home, shared = tmp_path / "home", tmp_path / "shared"
    build = ["build", "--source", ncbi_folder, "--model", "hash-256", "--name", "human@1", "--home", home]
    for args in (build, ["push", "human@1", shared, "--home", home]):
        code, _, err = call("genekb", *args)
        assert code == 0, err
    files = {f"/{path.relative_to(shared)}": path.read_bytes() for path in shared.rglob("*") if path.is_file()}
    large = max(files, key=lambda name: len(files[name]))
    gate = threading.Event()
    with serving(files=files) as server:
        server.faults[large] = [Fault(cut_after=1000, gate=gate)]
        args = ["pull", server.url, "--home", tmp_path / "new"]
        process = start("genekb", *args)
        wait_for(lambda: server.asked(large), process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        gate.set()
        assert (process.returncode, err.count("\n")) == (130, 1), err
        assert call("genekb", *args)[0] == 0
    assert call("genekb", "verify", "human@1", "--home", tmp_path / "new")[0] == 0


@pytest.mark.slow
def test_faults_at_random_times_lose_nothing(tmp_path):
    faults = {"kills": 12, "cold": 2, "interrupt": 8, "full": 4, "clock": 2, "pair": 4}
    options = [text for name, number in faults.items() for text in (f"--{name}", str(number))]
    options += ["--commands", "build,update,pull,cluster-overwrite", "--seed", "1", "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.robust.kills", *options], env=ENVIRONMENT, cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
