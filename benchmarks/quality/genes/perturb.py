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
from benchmarks.lib.protocol import command_line
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


def report(rows: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Write a table of all figures, and the bars, one line each."""
    auc = {(row["line"], row["task"], row["knowledge"]): row["auc"] for row in rows}
    lines = ["| line | task | knowledge | AUC | 95 % | out of fold | genes | s |", "|" + " --- |" * 8]
    for row in rows:
        lines.append(
            f"| {row['line']} | {row['task']} | {row['knowledge']} | {row['auc']:.3f} | {row['low']:.3f} to "
            f"{row['high']:.3f} | {row['auc_out_of_fold']:.3f} | {row['n_genes']} | {row['seconds']:.0f} |"
        )
    checks = [(f"{line} {task}", auc[line, task, "real"], bar) for (line, task), bar in BARS.items()]
    checks += [
        (f"{line} de above symbol", auc[line, "de", "real"] - auc[line, "de", "symbol"], ABOVE_SYMBOL) for line in LINES
    ]
    if ("rpe1", "dir", ALSO) in auc:
        checks.append(("rpe1 dir with the other line", auc["rpe1", "dir", ALSO], ALSO_BAR))
    bars = [f"- {'ok' if found >= bar else 'MISSED'}: {what} {found:.3f}, bar {bar:.3f}" for what, found, bar in checks]
    return "\n".join([*lines, "", *bars]) + "\n", bars


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
    page, bars = report(rows)
    (options.output / "perturb.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.output / "perturb.md").write_text(page)
    sys.stdout.write(page)
    return int(any("MISSED" in line for line in bars))


if __name__ == "__main__":
    sys.exit(main())
