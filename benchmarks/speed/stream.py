"""Reading one species out of a gene_info file of all of NCBI: rows a second and peak memory at two sizes.

    python -m benchmarks.speed.stream --n-rows 20000000 --output results

Writes a synthetic ``gene_info.gz`` in NCBI's columns (many taxa, human rows spread through it) into a temporary folder,
once with a tenth of the rows and once with all, and reads human from each in a process of its own. Prints JSON; fails
where the peak grows with the file. The peak is the kernel's VmHWM: ru_maxrss of a child starts at that of its parent.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
N_HUMAN = 60_000  # in both sizes, as in the real file (fewer in a file of fewer rows)
SHARE = 10  # the small file has one row of so many
BLOCK = 100_000
MAX_GROWTH_MB = 100

READ = """
import json, re, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from genekb import read_ncbi_folder
start = time.perf_counter()
source = read_ncbi_folder(Path(sys.argv[1]), taxa=["human"])
seconds = time.perf_counter() - start
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
found = {"n_kept": source.genes.num_rows, "n_read": source.files[0].n_rows_read, "seconds": seconds, "peak_mb": peak}
print(json.dumps(found))
"""


def row(number: int, tax_id: int) -> str:
    """One line of the width that NCBI's have on average, about 150 characters."""
    return (
        f"{tax_id}\t{number}\tGENE{number}\tLT{number:09d}\tG{number}|alt{number % 977}\tEnsembl:ENSG{number:011d}"
        f"\t{number % 23}\t{number % 23}p{number % 40}\tpredicted protein {number % 4096} of unknown function"
        f"\tprotein-coding\t-\t-\t-\thypothetical protein LOC{number}\t20221101\t-\n"
    )


def write(folder: Path, n_rows: int) -> int:
    """Write the file block by block; gives its size in bytes."""
    path = folder / "gene_info.gz"
    every = max(n_rows // N_HUMAN, 1)
    with gzip.open(path, "wt", compresslevel=1, encoding="utf-8") as stream:
        stream.write(HEADER)
        for start in range(1, n_rows + 1, BLOCK):
            numbers = range(start, min(start + BLOCK, n_rows + 1))
            stream.write(
                "".join(row(number, 9606 if number % every == 0 else 1000 + number % 5003) for number in numbers)
            )
    return path.stat().st_size


HEADER = (
    "#tax_id\tGeneID\tSymbol\tLocusTag\tSynonyms\tdbXrefs\tchromosome\tmap_location\tdescription\ttype_of_gene\t"
    "Symbol_from_nomenclature_authority\tFull_name_from_nomenclature_authority\tNomenclature_status\t"
    "Other_designations\tModification_date\tFeature_type\n"
)


def measure(n_rows: int) -> dict[str, float]:
    """Write, read in a fresh process, delete."""
    with tempfile.TemporaryDirectory() as folder:
        n_bytes = write(Path(folder), n_rows)
        command = [sys.executable, "-c", READ, folder, str(ROOT)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {
        "rows": found["n_read"],
        "rows_kept": found["n_kept"],
        "file_bytes": n_bytes,
        "seconds": round(found["seconds"], 1),
        "rows_per_s": round(found["n_read"] / found["seconds"]),
        "peak_mb": round(found["peak_mb"]),
    }


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-rows", type=int, default=20_000_000)
    parser.add_argument("--output", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    rows = [measure(arguments.n_rows // SHARE), measure(arguments.n_rows)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "stream.json").write_text(json.dumps(rows, indent=1))
    lines = ["| " + " | ".join(rows[0]) + " |", "| " + " | ".join("---" for _ in rows[0]) + " |"]
    lines += ["| " + " | ".join(f"{value:,}" for value in row.values()) + " |" for row in rows]
    (arguments.output / "stream.md").write_text("\n".join(lines) + "\n")
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    sys.exit(0 if rows[1]["peak_mb"] - rows[0]["peak_mb"] <= MAX_GROWTH_MB else 1)


if __name__ == "__main__":
    main()
