"""Effects of perturbations never seen, by PerturbQA's tables and metric, beside controls; perturb.{json,md}.

    GENEKB_TEST_DATA=DATA python -m benchmarks.quality.genes.perturb --output results --kb human [--encoder E] [--also]

Reads `DATA/perturbqa/{k562,rpe1}.{de,dir}.{train,test}.tsv.gz`, which are for tests alone: nothing fitted on them is
kept. Everything is set inside the training tables; labels of the test tables are read by the scores alone. One job is a
table and a kind of knowledge; jobs whose predictions are in the output folder are not run again. With --also each table
is predicted with the training table of the other cell line as well.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import genekb
from benchmarks.lib.protocol import bar_line, command_line, finish, markdown
from cellmodel.bench.perturbations import perturb_eval
from cellmodel.perturb.predict import PerturbConfig, predict_files

LINES, TASKS = ("k562", "rpe1"), ("de", "dir")
KNOWLEDGE = ("real", "symbol", "shuffled", "name")
ALSO = "real, other line"
BARS = {("k562", "de"): 0.685, ("rpe1", "de"): 0.675, ("k562", "dir"): 0.76, ("rpe1", "dir"): 0.71}
ABOVE_SYMBOL, ALSO_BAR = 0.07, 0.75


def predict(folder: Path, line: str, task: str, kind: str, *, kb: genekb.Store, options: argparse.Namespace) -> Path:
    """Predict one test table, unless that was done; give the file."""
    name = f"{line}.{task}.{kind.replace(', ', '-').replace(' ', '-')}"
    path, record = options.output / f"{name}.tsv", options.output / f"{name}.json"
    if record.exists():
        return path
    other = next(one for one in LINES if one != line)
    started = time.process_time()
    found = predict_files(
        folder / f"{line}.{task}.train.tsv.gz",
        folder / f"{line}.{task}.test.tsv.gz",
        kb,
        path,
        config=PerturbConfig(encoder=options.encoder, knowledge="real" if kind == ALSO else kind),
        also=[folder / f"{other}.{task}.train.tsv.gz"] if kind == ALSO else (),
        overwrite=True,
    )
    record.write_text(json.dumps(found.record() | {"seconds": time.process_time() - started}, indent=1) + "\n")
    return path


def report(rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Lay out all figures, and the bars, one line each."""
    auc = {(row["line"], row["task"], row["knowledge"]): row["auc"] for row in rows}
    names = ("line", "task", "knowledge", "auc", "low", "high", "auc_out_of_fold", "n_genes", "seconds")
    columns = ("line", "task", "knowledge", "AUC", "low", "high", "out of fold", "genes", "s")
    lines = markdown(columns, (map(row.get, names) for row in rows))
    checks = [(f"{line} {task}", auc[line, task, "real"], bar) for (line, task), bar in BARS.items()]
    checks += [
        (f"{line} de above symbol", auc[line, "de", "real"] - auc[line, "de", "symbol"], ABOVE_SYMBOL) for line in LINES
    ]
    if ("rpe1", "dir", ALSO) in auc:
        checks.append(("rpe1 dir with the other line", auc["rpe1", "dir", ALSO], ALSO_BAR))
    return lines, [bar_line(*each) for each in checks]


def main() -> int:
    """Run what is missing, score everything and compare with the bars."""
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--kb", default="human")
    parser.add_argument("--encoder")
    parser.add_argument("--also", action="store_true")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    folder, kb = Path(os.environ["GENEKB_TEST_DATA"]) / "perturbqa", genekb.open(options.kb)
    rows = []
    kinds = (*KNOWLEDGE, *([ALSO] if options.also else []))
    for kind, line, task in ((kind, line, task) for kind in kinds for task in TASKS for line in LINES):
        path = predict(folder, line, task, kind, kb=kb, options=options)
        (scores,) = perturb_eval([path], folder / f"{line}.{task}.test.tsv.gz", draws=100)
        record = json.loads(path.with_suffix(".json").read_text())
        rows.append({**record, **asdict(scores), "line": line, "task": task, "knowledge": kind})
        sys.stderr.write(f"{line} {task} {kind}: {scores.auc:.4f}\n")
    rows.sort(key=lambda row: (TASKS.index(row["task"]), row["line"], kinds.index(row["knowledge"])))
    lines, bars = report(rows)
    return finish(options.output, "perturb", rows, lines=lines, bars=bars)


if __name__ == "__main__":
    sys.exit(main())
