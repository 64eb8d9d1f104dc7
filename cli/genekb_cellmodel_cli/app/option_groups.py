"""Groups of options: a dataclass whose fields are the options of every command that takes it as a parameter."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

import typer

Command = Callable[..., None]


def expand_groups(command: Command) -> Command:
    """Replace each parameter of a command that is a dataclass by one parameter for each of its fields.

    A field's annotation holds its :func:`typer.Option`; its default is that of the parameter's own default, an instance
    of the dataclass, else that of the field.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if is_dataclass(hint):
            groups[parameter.name] = hint
            parameters += _field_parameters(hint, parameter.default)
        else:
            parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))

    def expanded(**values: Any) -> None:
        chosen = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **chosen)

    expanded.__name__, expanded.__doc__ = command.__name__, command.__doc__
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by Typer
    return expanded


def _field_parameters(group: Any, defaults: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = field.default if defaults is inspect.Parameter.empty else getattr(defaults, field.name)
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hints[field.name],
            default=inspect.Parameter.empty if default is MISSING else default,
        )


@contextmanager
def wrong_usage(kind: type[Exception] = ValueError) -> Iterator[None]:
    """Report errors of values that cannot be used, or exclude one another, as wrong usage: exit code 2."""
    try:
        yield
    except kind as error:
        raise typer.BadParameter(str(error)) from error
