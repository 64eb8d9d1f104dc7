"""Every budget that a quarter of an hour can check, beside what else a user would run; fails where one is missed.

    python -m benchmarks.speed.budgets --output results [--parts start-up,open,...]

Runs the benchmarks of each subject in turn and writes ``budgets.json`` and ``budgets.md`` as they go on. The part
``scale`` adds 100,000 cells: half an hour more.
"""

import sys
from functools import partial

from benchmarks.lib.protocol import command_line
from benchmarks.quality.genes import update
from benchmarks.speed import chain, cluster, encode, open, parse, scale, startup
from benchmarks.speed.frame import Measure, measure

PARTS: dict[str, Measure] = {
    "start-up": startup.figures,
    "open": open.figures,
    "parse": parse.figures,
    "encode": partial(encode.figures, n_texts=300),
    "update": partial(update.figures, model="wcp", taxa="human"),
    "cluster": cluster.figures,
    "chain": chain.figures,
    "scale": partial(scale.figures, sizes="12000,50000,100000", k="estimated"),
}


def main() -> int:
    """Measure the parts that are asked for."""
    parser = command_line(__doc__, with_home=False)
    parts = ",".join(part for part in PARTS if part != "scale")
    parser.add_argument("--parts", default=parts, help=f"Some of {', '.join(PARTS)}.")
    options = parser.parse_args()
    chosen = {part: PARTS[part] for part in options.parts.split(",")}
    code = measure(chosen, options.output, "budgets")
    sys.stdout.write((options.output / "budgets.md").read_text())
    return code


if __name__ == "__main__":
    sys.exit(main())
