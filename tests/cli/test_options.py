"""A dataclass as the parameter of a command: each of its fields is an option."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from genekb_cellmodel_cli.app.options import wrong_usage
from genekb_cellmodel_cli.app.running import make_app


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


def test_values_that_exclude_one_another_are_wrong_usage():
    with pytest.raises(typer.BadParameter, match="not both"), wrong_usage():
        raise ValueError("not both")
    with pytest.raises(KeyError), wrong_usage():
        raise KeyError
