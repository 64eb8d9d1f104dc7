"""Snakemake wrapper for cellmodel run."""

__author__ = "The genekb and cellmodel developers"
__copyright__ = "Copyright 2026, the genekb and cellmodel developers"
__license__ = "BSD-3-Clause"

from shlex import quote

from snakemake.shell import shell

log = snakemake.log_fmt_shell(stdout=True, stderr=True)
extra = snakemake.params.get("extra", "")
beside = " ".join(
    f"--{name} {quote(str(snakemake.output[name]))}" for name in ("report", "tables") if snakemake.output.get(name)
)

shell(
    "cellmodel run {snakemake.input.cells:q} --kb {snakemake.input.kb:q} --output {snakemake.output.cells:q} {beside}"
    " --threads {snakemake.threads} {extra} {log}"
)
