"""Training of the recipes and encoding on this machine: seconds a step and in all, and beside them those of a GPU.

    python -m benchmarks.speed.device --output results [--cells 3000,12000] [--recipes scrcl,...] [--texts 400]

Cells are drawn from real ones (``synthetic.py``), genes aligned with a store of wcp, k given. Up to
``--most-whole`` cells a run is made whole; above, the time of a step is that between a run of two epochs and one of
twelve, after one that loads the libraries, and the total follows from it.
The processor's columns have wall and processor seconds; a busy machine changes the
first, so the bar is held against the smaller of wall time and processor time over threads. Where PyTorch finds a GPU
the same is run there (encoding in bfloat16), and the ratio given; where it finds none the page says so. Writes
``device.json`` and ``device.md``; exits with 1 where a recipe is over its bar.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import anndata as ad

from benchmarks.lib.protocol import data_folder, load_datasets
from benchmarks.lib.synthetic import write_synthetic
from benchmarks.speed.encode import sample_texts

SOURCE = "kang_ctrl_stim_12261"
RECIPES = "fused,scllm-dsc,lowsample,scsiameseclu,scrcl"
N_CLUSTERS = 8
SHORT, LONGER = 2, 12  # epochs of a stage
EPOCHS = {"fused": 0, "lowsample": 0, "scllm-dsc": 100, "scsiameseclu": 130, "scrcl": 100}  # of all cells; 0: by steps
BARS_S = {3_000: 20, 12_000: 40, 100_000: 180}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One recipe on one device."""

    recipe: str
    n_cells: int
    device: str
    step_ms: float  # of the wall clock
    step_cpu_ms: float
    seconds: float
    cpu_s: float
    is_whole: bool  # else the total is extrapolated from the time of a step

    def judged_s(self, n_threads: int) -> float:
        """Seconds that are held against the bar."""
        return min(self.seconds, self.cpu_s / n_threads) if self.device == "cpu" else self.seconds


def open_store(folder: Path):
    """Build the store that aligns the genes."""
    import genekb

    source = genekb.read_ncbi_folder(data_folder() / "ncbi" / "2022-11", taxa=["human"])
    config = genekb.BuildConfig(name="human", models=("wcp",), genes="protein-coding")
    return genekb.open(genekb.build(source, config, home=folder).folder)


def make_views(n_cells: int, kb, folder: Path):
    """Draw cells, and make what a recipe sees of them."""
    from cellmodel.core.config import RunConfig
    from cellmodel.io.cells import read_cells
    from cellmodel.tl._run import prepare

    chosen = next(one for one in load_datasets() if one.name == SOURCE)
    path = folder / f"{n_cells}.h5ad"
    write_synthetic(ad.read_h5ad(chosen.path), path, n_cells=n_cells, seed=0, label_key=chosen.label_key)
    config = RunConfig(recipe="scsiameseclu", encoder="wcp")  # which reads all views
    return replace(prepare(read_cells(path), kb, config).views, n_clusters=N_CLUSTERS)


def time_run(recipe, views) -> tuple[float, float, int]:
    """Wall and processor seconds of a training, and its epochs."""
    started, started_cpu = time.perf_counter(), time.process_time()
    history = recipe.represent(views, 0).history
    return time.perf_counter() - started, time.process_time() - started_cpu, len(history)


def measure(name: str, views, device: str, *, is_whole: bool) -> Row:
    """Train as often as is needed to know the time of a step and of all."""
    from cellmodel.core.config import TrainingConfig
    from cellmodel.recipes.registry import find_recipe

    recipe, views = find_recipe(name), replace(views, device=device)
    is_whole = is_whole or not EPOCHS[name]
    if is_whole:
        seconds, cpu_s, n_epochs = time_run(recipe, views)
        n_steps = max(n_epochs, 1) if EPOCHS[name] else 300
        step, step_cpu = seconds / n_steps, cpu_s / n_steps
    else:
        _, short, longer = (  # the first run also loads libraries
            time_run(recipe, replace(views, training=TrainingConfig(epochs=epochs)))
            for epochs in (SHORT, SHORT, LONGER)
        )
        step, step_cpu = ((longer[at] - short[at]) / (longer[2] - short[2]) for at in range(2))
        left = EPOCHS[name] - longer[2]
        seconds, cpu_s = longer[0] + left * step, longer[1] + left * step_cpu
    return Row(
        recipe=name, n_cells=len(views.pcs), device=device, step_ms=1000 * step, step_cpu_ms=1000 * step_cpu,
        seconds=seconds, cpu_s=cpu_s, is_whole=is_whole,
    )  # fmt: skip


def measure_recipes(cells: list[int], recipes: list[str], devices: list[str], most_whole: int) -> Iterator[Row]:
    """Train every recipe on every device."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kb = open_store(folder)
        for n_cells in cells:
            views = make_views(n_cells, kb, folder)
            for recipe in recipes:
                for device in devices:
                    row = measure(recipe, views, device, is_whole=n_cells <= most_whole)
                    sys.stderr.write(f"{row}\n")
                    yield row


def texts_a_second(n_texts: int, devices: list[str]) -> dict[str, float]:
    """Encode real gene texts by MiniLM in bfloat16: texts a second of wall time, by device."""
    from genekb.encoders import load_encoder

    texts, found = sample_texts(n_texts), {}
    for device in devices:
        encoder = load_encoder("minilm", dtype="bfloat16", device=device)
        encoder.encode(texts[:16])
        started = time.perf_counter()
        encoder.encode(texts)
        found[device] = n_texts / (time.perf_counter() - started)
    return found


def table(rows: list[Row], texts: dict[str, float], gpu: str) -> str:
    """Markdown: a line a recipe and number of cells; the GPU's figures beside the processor's."""
    lines = [
        "| recipe | cells | step ms (processor) | total s (processor) | GPU: step ms, total s | ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    on_gpu = {(row.recipe, row.n_cells): row for row in rows if row.device != "cpu"}
    for row in (row for row in rows if row.device == "cpu"):
        other = on_gpu.get((row.recipe, row.n_cells))
        beside = f"{other.step_ms:.1f}, {other.seconds:.1f} | {row.seconds / other.seconds:.1f}" if other else " | "
        lines.append(
            f"| {row.recipe} | {row.n_cells:,} | {row.step_ms:.0f} ({row.step_cpu_ms:.0f}) "
            f"| {'' if row.is_whole else '~'}{row.seconds:.1f} ({row.cpu_s:.1f}) | {beside} |"
        )
    lines += ["", f"GPU: {gpu or 'none on this machine, so there are no figures of one'}."]
    if texts:
        speeds = ", ".join(f"{device} {speed:.1f}" for device, speed in texts.items())
        lines.append(f"MiniLM in bfloat16, texts a second: {speeds}.")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write, and compare with the bars."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--cells", default="3000,12000")
    parser.add_argument("--recipes", default=RECIPES)
    parser.add_argument("--texts", type=int, default=400, help="Texts to encode; none if 0.")
    parser.add_argument("--most-whole", type=int, default=12_000, help="Cells up to which runs are made whole.")
    options = parser.parse_args()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    devices = ["cpu", "cuda"] if gpu else ["cpu"]
    sys.stderr.write(f"GPU: {gpu or 'none'}; {torch.get_num_threads()} threads\n")
    texts = texts_a_second(options.texts, devices) if options.texts else {}
    cells, recipes = [int(one) for one in options.cells.split(",")], options.recipes.split(",")
    rows = list(measure_recipes(cells, recipes, devices, options.most_whole))
    about = {"gpu": gpu, "threads": torch.get_num_threads(), "texts_a_second": texts}
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "device.json").write_text(
        json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=1)
    )
    (options.output / "device.md").write_text(table(rows, texts, gpu))
    sys.stdout.write(table(rows, texts, gpu))
    late = [row for row in rows if row.judged_s(torch.get_num_threads()) > BARS_S.get(row.n_cells, float("inf"))]
    sys.stderr.write(f"over the bar: {', '.join(f'{row.recipe} at {row.n_cells:,}' for row in late) or 'none'}\n")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
