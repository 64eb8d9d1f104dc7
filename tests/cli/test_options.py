"""A dataclass as the parameter of a command: each of its fields is an option."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cellmodel.explain.samples.design import SampleConfig
from genekb_cellmodel_cli.app.running import make_app
from genekb_cellmodel_cli.app.signature import wrong_usage


@dataclass(frozen=True, kw_only=True)
class Place:
    city: Annotated[str, typer.Option(help="City.")]
    zone: Annotated[int, typer.Option(help="Zone.", min=0)] = 1


@dataclass(frozen=True, kw_only=True)
class Detailed(Place):
    street: Annotated[str | None, typer.Option(help="Street.")] = None


def called(command, *words):
    app = make_app("program", "A program.", {"go": command, "stay": lambda: None})
    return CliRunner().invoke(app, ["go", *words])


def test_fields_are_options_and_reach_the_command_as_one_value():
    found = []

    def go(name: str, place: Detailed, loud: Annotated[bool, typer.Option("--loud")] = False) -> None:
        """Go somewhere."""
        found.append((name, place, loud))

    result = called(go, "me", "--city", "Bern", "--street", "A 1", "--loud")
    assert result.exit_code == 0, result.output
    assert found == [("me", Detailed(city="Bern", zone=1, street="A 1"), True)]


def test_the_default_of_the_parameter_is_that_of_the_options():
    found = []

    def go(place: Place = Place(city="Basel", zone=3)) -> None:
        """Go somewhere."""
        found.append(place)

    assert called(go, "--zone", "4").exit_code == 0
    assert found == [Place(city="Basel", zone=4)]
    assert "[default: Basel]" in called(go, "--help").output


def test_a_field_without_a_default_is_required():
    def go(place: Place) -> None:
        """Go somewhere."""

    result = called(go)
    assert (result.exit_code, "--city" in result.output) == (2, True)


def test_arguments_that_our_code_refuses_are_wrong_usage_and_no_other_errors_are():
    with pytest.raises(typer.BadParameter, match="min_cells must be >= 1"), wrong_usage():
        SampleConfig(min_cells=0)
    with pytest.raises(ValueError, match="broadcast"), wrong_usage():
        np.zeros(2) + np.zeros(3)
    with pytest.raises(KeyError), wrong_usage():
        raise KeyError
