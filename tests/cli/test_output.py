"""What is printed while a command works."""

import io
import logging
import re
import threading
import time

import pytest

from genekb.core.progress import duration, end_progress, progress, show_progress
from tests.support.in_process import call_here


def work(what, *, total):
    for done in range(0, 3_000, 500):
        progress(what, done, total)
        time.sleep(0.08)


def test_off_a_terminal_lines_say_what_is_done_at_what_rate_and_what_is_left(caplog):
    caplog.set_level(logging.INFO, logger="genekb")
    with show_progress(every_s=0.1):
        progress("stage clusters", 4, 6)
        with show_progress(every_s=0.01):  # of what is called inside
            thread = threading.Thread(target=work, args=["minilm"], kwargs={"total": 20_000})
            thread.start()
            thread.join()
    lines = [line for line in caplog.messages if line.startswith("minilm: ")]
    assert 2 <= len(lines) <= 5
    assert all(" of 20,000 (" in line for line in lines)
    assert all(line.endswith(" s left") and " a second, " in line for line in lines)


def test_work_of_unknown_size_says_how_long_it_takes(caplog):
    caplog.set_level(logging.INFO, logger="genekb")
    with show_progress(every_s=0.1):
        work("annotate", total=0)
    assert caplog.messages[0] == "annotate: 0 s"
    progress("nobody shows this", 1, 2)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_a_bar_comes_with_the_second_and_goes_before_results_are_printed(monkeypatch):
    monkeypatch.setattr("genekb.core.progress._WAIT_S", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", stderr := Terminal())
    with show_progress():
        deadline = time.monotonic() + 60
        while "minilm" not in stderr.getvalue() and time.monotonic() < deadline:
            work("minilm", total=20_000)
        end_progress()
        shown = len(stderr.getvalue())
        progress("more", 1, 2)
        time.sleep(0.3)
    assert re.search(r"minilm: [\d,]+ of 20,000 \(\d+%\)", stderr.getvalue())
    assert len(stderr.getvalue()) == shown


@pytest.mark.parametrize("flags", [[], ["--quiet"]])
def test_quiet_commands_print_nothing_but_their_result(flags, tmp_path, capsys, monkeypatch):
    ended = call_here(["genekb", *flags, "info", "--home", tmp_path], capsys, monkeypatch)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("no store in ") is (not flags)


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4 s"), (99, "99 s"), (700, "12 min"), (12_600, "3.5 h")])
def test_a_duration_is_written_as_people_say_it(seconds, text):
    assert duration(seconds) == text


def test_a_choice_with_a_typo_is_refused_with_the_one_that_was_probably_meant(capsys, monkeypatch):
    arguments = ["cellmodel", "cluster", "cells.h5ad", "-o", "out.h5ad", "--sentences", "poled"]
    ended = call_here(arguments, capsys, monkeypatch)
    assert ended.code == 2
    last = "'poled' is not one of 'pooled', 'sampled', 'encoded'; did you mean 'pooled'?"
    assert ended.err.splitlines()[-1] == f"Error: Invalid value for '--sentences': {last}"
