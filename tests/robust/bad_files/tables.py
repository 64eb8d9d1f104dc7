"""Text tables with something wrong in them; see tests/robust/bad_files/cells.py."""

from tests.robust.bad_files.cells import CELLS, GENES, counts, kind, written

ROWS = counts().astype(int)


def table(separator=",", *, rows=None, header=None, corner="cell", names=CELLS):
    """Text of a table with a header and a first column of names."""
    rows = ROWS if rows is None else rows
    header = [corner, *GENES] if header is None else header
    lines = [separator.join(header)] if header else []
    lines += [separator.join([name, *map(str, row)]) for name, row in zip(names, rows, strict=True)]
    return "\n".join(lines) + "\n"


@kind
def csv_empty(folder):
    return written(folder, "cells.csv")


@kind
def csv_of_a_header(folder):
    return written(folder, "cells.csv", table().split("\n")[0].encode() + b"\n")


@kind
def csv_with_decimal_commas(folder):
    rows = [[f'"{value},5"' for value in row] for row in ROWS]
    return written(folder, "cells.csv", table(rows=rows).encode())


@kind
def csv_with_semicolons(folder):
    return written(folder, "cells.csv", table(";").encode())


@kind
def csv_ragged(folder):
    lines = table().splitlines()
    lines[4] += ",7,7"
    return written(folder, "cells.csv", "\n".join(lines).encode())


@kind
def csv_without_header(folder):
    return written(folder, "cells.csv", table(header=[]).encode())


@kind
def csv_with_a_title(folder):
    return written(folder, "cells.csv", b"Counts of 2021\n" + table().encode())


@kind
def csv_without_cell_names(folder):
    lines = [",".join(GENES), *(",".join(map(str, row)) for row in ROWS)]
    return written(folder, "cells.csv", "\n".join(lines).encode())


@kind
def csv_with_a_mark(folder):
    return written(folder, "cells.csv", table().encode("utf-8-sig"))


@kind
def csv_in_utf16(folder):
    return written(folder, "cells.csv", table().encode("utf-16"))


@kind
def csv_in_latin1(folder):
    names = ["zelle-é", *CELLS[1:]]
    return written(folder, "cells.csv", table(names=names).encode("latin-1"))


@kind
def csv_with_gaps(folder):
    rows = ROWS.astype(str).astype(object)
    rows[3, 4], rows[5, 6] = "", "NA"
    return written(folder, "cells.csv", table(rows=rows).encode())


@kind
def csv_with_genes_in_rows(folder):
    text = table(rows=ROWS.T, header=["gene", *CELLS], names=GENES)
    return written(folder, "cells.csv", text.encode())


@kind
def csv_with_repeated_genes(folder):
    return written(folder, "cells.csv", table(header=["cell", "CD3D", "CD3D", *GENES[2:]]).encode())


@kind
def csv_named_gz(folder):
    return written(folder, "cells.csv.gz", table().encode())
