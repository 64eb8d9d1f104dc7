"""Names of the 50 protein systems of NeST among those of GO processes and of NeST, beside controls.

    python -m benchmarks.quality.genes.nest --kb best --output results

Needs ``gene_sets/nest.tsv`` and ``gene_sets/go_bp_names.tsv.gz`` of GENEKB_TEST_DATA. The percentile of a system is the
share of the other names that rank below its own; nothing was chosen on these sets.
"""

import csv
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import genekb
from benchmarks.lib.protocol import bar_line, command_line, finish, markdown
from genekb.query.gene_sets import read_vocabulary
from genekb.query.name_set import NameSetConfig, name_sets

BAR = 0.93  # mean percentile of the texts


def main() -> int:
    parser = command_line(__doc__, with_home=False)
    parser.add_argument("--kb", default="human")
    options = parser.parse_args()
    data = Path(os.environ["GENEKB_TEST_DATA"]) / "gene_sets"
    with (data / "nest.tsv").open(newline="") as file:
        systems = {
            row["NEST ID"]: (row["name_new"], row["Genes"].split(",")) for row in csv.DictReader(file, delimiter="\t")
        }
    names = list(read_vocabulary(data / "go_bp_names.tsv.gz"))
    known = {name.name for name in names}
    names += [
        replace(names[0], name=name)
        for name in dict.fromkeys(name for name, _ in systems.values())
        if name not in known
    ]
    kb = genekb.open(options.kb)
    rows = []
    for knowledge in ("real", "masked", "name", "shuffled"):
        found = name_sets(
            kb,
            {system: genes for system, (_, genes) in systems.items()},
            vocabulary=names,
            encoder="wcp",
            knowledge=knowledge,
            config=NameSetConfig(n_names=len(names)),
        )
        ranked = [[each.name for each in one.names] for one in found.sets]
        ranks = [order.index(name) for order, (name, _) in zip(ranked, systems.values(), strict=True)]
        named = float(np.mean([bool(one.name) for one in found.sets]))
        rows.append((knowledge, float(np.mean(1 - np.array(ranks) / (len(names) - 1))), named))
    title = f"# Names of NeST's systems among {len(names):,}"
    lines = [title, "", *markdown(("text", "percentile", "named"), rows)]
    return finish(options.output, "nest", rows, lines=lines, bars=[bar_line("percentile", rows[0][1], BAR)])


if __name__ == "__main__":
    sys.exit(main())
