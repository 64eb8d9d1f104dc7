"""What is printed while a command works."""

import logging
import time

import pytest

from genekb_cellmodel_cli.app.output import duration, progress_bar
from tests.support.in_process import call_here


@pytest.fixture
def at_level(request):
    logger = logging.getLogger("genekb")
    before = logger.level
    logger.setLevel(request.param)
    yield
    logger.setLevel(before)


def lines_of_half_a_second(capsys):
    with progress_bar(every_s=0.1) as progress:
        for done in range(0, 3_000, 500):
            progress("minilm", done, 20_000)
            time.sleep(0.08)
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("at_level", [logging.INFO], indirect=True)
def test_off_a_terminal_lines_say_what_is_done_at_what_rate_and_what_is_left(at_level, capsys):
    lines = lines_of_half_a_second(capsys)
    assert 2 <= len(lines) <= 5
    assert all(line.startswith("minilm: ") and " of 20,000 (" in line for line in lines)
    assert all(line.endswith(" s left") and " a second, " in line for line in lines)


@pytest.mark.parametrize("at_level", [logging.WARNING], indirect=True)
def test_quiet_commands_write_no_such_lines(at_level, capsys):
    assert lines_of_half_a_second(capsys) == []


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4 s"), (99, "99 s"), (700, "12 min"), (12_600, "3.5 h")])
def test_a_duration_is_written_as_people_say_it(seconds, text):
    assert duration(seconds) == text


def test_a_choice_with_a_typo_is_refused_with_the_one_that_was_probably_meant(capsys, monkeypatch):
    arguments = ["cellmodel", "cluster", "cells.h5ad", "-o", "out.h5ad", "--sentences", "poled"]
    ended = call_here(arguments, capsys, monkeypatch)
    assert ended.code == 2
    last = "'poled' is not one of 'pooled', 'sampled', 'encoded'; did you mean 'pooled'?"
    assert ended.err.splitlines()[-1] == f"Error: Invalid value for '--sentences': {last}"
