"""The commands `genekb` and `cellmodel`: arguments, printing and exit codes, nothing else."""
