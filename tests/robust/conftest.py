"""Every test here is marked `robust`, but for a few of each sort, which the quick run keeps."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
BAD_CELLS = (
    *("nan", "negative", "scaled", "no-genes", "empty-file", "cut-off-h5ad", "csv-with-semicolons", "mtx-huge"),
    *("zarr-without-a-chunk", "output-exists"),
)
BAD_SOURCES = (
    *("gene-info-gzip-truncated", "table-without-symbol", "vectors-pickle-with-code", "store-byte-flipped"),
    "saved-model-deep",
)
ADDRESSES = "test_no_command_shows_or_keeps_the_password_of_an_address"
# Beginnings of the names of tests, by module. Of a module that is not listed the quick run has none.
QUICK = {
    "test_address_secrets": (
        *(f"{ADDRESSES}[{command}]" for command in ("genekb-pull", "cellmodel-annotate")),
        *("test_of_an_address", "test_a_host", "test_a_login", "test_a_path"),
    ),
    "test_bad_cells": (
        *(f"test_a_wrong_input_gives_one_line_and_stays_as_it_is[{kind}]" for kind in BAD_CELLS),
        "test_the_catalog",
    ),
    "test_bad_sources": (
        *(f"test_a_bad_input_ends_in_one_line_and_changes_nothing[{kind}]" for kind in BAD_SOURCES),
        "test_the_catalog",
    ),
    "test_faults": ("test_a_damaged_file_never_gives_a_wrong_answer[flip",),
    "test_fuzz": tuple(
        f"test_a_file_made_wrong_at_random_gives_a_result_or_an_error_of_ours[{name}]"
        for name in ("tables of genes", "vectors")
    ),
    "test_interrupts": ("test_every_signal_ends_a_command_with_130_and_one_line[SIGINT]",),
    "test_no_code": ("test_",),
    "test_secrets": ("test_",),
    "test_sql_readonly": ("test_",),
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == HERE and not item.name.startswith(QUICK.get(item.path.stem, ())):
            item.add_marker(pytest.mark.robust)
