"""Options made from functions: what Python has by signature and docstring, the command line has, too."""

import inspect
import json
from operator import attrgetter
from pathlib import Path
from typing import get_args

import pytest

import cellmodel as cm
from genekb_cellmodel_cli.app.signature import OptionsOf, as_help
from genekb_cellmodel_cli.cellmodel import app as cellmodel_app
from genekb_cellmodel_cli.genekb import app as genekb_app
from tests.support.commands import commands_of

GOLDEN = Path(__file__).parents[1] / "data" / "options.json"


NAMES = (
    "cluster", "run", "embed", "annotate", "search", "attribute", "classify", "predict", "compare", "markers",
    "composition", "perturb",
)  # fmt: skip
FUNCTIONS = [f"cellmodel.tl.{name}" for name in NAMES]
FUNCTIONS += ["cellmodel.bench.bench", "cellmodel.bench.eval", "cellmodel.view"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_have_the_names_the_defaults_and_the_texts_of_the_arguments(name):
    arguments = inspect.signature(attrgetter(name.removeprefix("cellmodel."))(cm)).parameters
    for option in OptionsOf(function=name).parameters():
        default = arguments[option.name].default
        assert option.default == default or (default == () and not option.default), option.name
        assert get_args(option.annotation)[1].help


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Store; its first one if None.", "Store; its first one if left out."),
        ("Name of a recipe, or a `Recipe`.", "Name of a recipe."),
        ('With ``spatial``, or ``knowledge="none"``, for :func:`map_labels`.',
         "With --spatial, or --knowledge none, for `map-labels`."),
        ("Such as ``X_scVI``.", "Such as X_scVI."),
    ],
)  # fmt: skip
def test_help_is_the_text_of_the_parameter_in_the_words_of_the_shell(text, shown):
    assert as_help(text, {"spatial", "knowledge"}) == shown


def test_an_option_that_goes_or_changes_its_default_is_seen():
    """Scripts rely on these; `python -m tests.cli.test_signature` writes them anew."""
    assert _options() == json.loads(GOLDEN.read_text())


def _options():
    """Give the options of each command: the spellings, with the default where there is one."""
    apps = {"genekb": genekb_app, "cellmodel": cellmodel_app}
    return {
        f"{program} {words}": {
            " ".join((*param.opts, *param.secondary_opts)): None if param.default in (None, "") else str(param.default)
            for param in command.params
            if param.name != "help"
        }
        for program, app in apps.items()
        for words, command in commands_of(app).items()
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(_options(), indent=1) + "\n")
