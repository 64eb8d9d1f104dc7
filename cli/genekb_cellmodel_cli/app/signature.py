"""Options of a command from the signature and the docstring of its function, which are read without importing it."""

import ast
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from dis import opmap
from functools import cache
from importlib import import_module
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_origin, get_type_hints

import typer

import cellmodel
import genekb
from genekb.core.progress import progress, show_progress

if TYPE_CHECKING:
    from cellmodel.io.cells import ReadConfig

Command = Callable[..., None]
Check = Callable[[], None]
_ROOTS: Final = {package.__name__: Path(str(package.__file__)).parent for package in (cellmodel, genekb)}
_PLAIN: Final[Mapping[str, Any]] = {"bool": bool, "int": int, "float": float, "str": str, "Path": Path}
_SEVERAL: Final = "one or several"  # what the text of an argument says whose option is repeatable
_NEVER: Final = ("adata", "kb", "config", "copy", "classifier")  # arguments that only Python has


class Arguments(dict[str, Any]):
    """Arguments of a function by name, as they were given on the command line."""

    def __init__(self, function: str, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self.function = function

    def take(self, *names: str) -> dict[str, Any]:
        """Take some of them out."""
        return {name: self.pop(name) for name in names if name in self}

    def read(self) -> "ReadConfig":
        """Take out where the values are."""
        from cellmodel.io.cells import ReadConfig

        return ReadConfig(**self.take("layer", "use_raw", "gene_key", "values"))

    def call(self, *given: Any, **more: Any) -> Any:
        """Call the function with those that are given, and with ``more``."""
        module, _, name = self.function.rpartition(".")
        arguments = {key: value for key, value in {**self, **more}.items() if value is not None}
        return getattr(import_module(module), name)(*given, **arguments)


@dataclass(frozen=True, kw_only=True)
class OptionsOf:
    """Options for the arguments of a function: the default of a command's parameter of type :class:`Arguments`."""

    function: str  # its full name, such as ``cellmodel.tl.cluster``
    without: tuple[str, ...] = ()  # arguments that are no options, or are declared by hand
    special: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # more of an option, by argument

    def parameters(self) -> Iterator[Parameter]:
        """Give a parameter of Typer for each argument."""
        function, module = _find(self.function)
        texts = _described(ast.get_docstring(function) or "")
        given = function.args
        defaults = dict(zip([one.arg for one in reversed(given.args)], reversed(given.defaults), strict=False))
        defaults |= {
            one.arg: default for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default
        }
        own = (*given.args, *given.kwonlyargs)
        forwarded = self._forwarded(function, module, *(one.arg for one in own))
        names = {*texts, *(one.name for one in forwarded)}
        for argument in own:
            if argument.annotation is not None and argument.arg not in (*_NEVER, *self.without):
                default = ast.literal_eval(defaults[argument.arg]) if argument.arg in defaults else Parameter.empty
                special = dict(self.special.get(argument.arg, {}))
                text = texts[argument.arg]
                kind = special.pop("type", None) or _kind(argument.annotation, module)
                if _SEVERAL in text and get_origin(kind) is not list:
                    kind = list[kind]  # type: ignore[valid-type]  # read by Typer
                text = special.pop("help", None) or as_help(text, names)
                yield _parameter(argument.arg, kind, default, text, special)
        yield from forwarded

    def _forwarded(self, function: ast.FunctionDef, module: str, *own: str) -> list[Parameter]:
        """Give those of the function to which it forwards, see :func:`cellmodel.core.tools.forwards_to`."""
        for each in function.decorator_list:
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "forwards_to":
                target, *without = each.args
                assert isinstance(target, ast.Name), self.function
                left_out = (*map(ast.literal_eval, without), *own, *self.without)
                found = list(replace(self, function=f"{module}.{target.id}", without=left_out).parameters())
                only = [name for one in each.keywords for name in _constant(one.value, module)]
                return [one for one in found if not only or one.name in only]
        return []


def _constant(node: ast.AST, module: str) -> tuple[str, ...]:
    """Give the texts of a constant by its name."""
    assert isinstance(node, ast.Name), ast.dump(node)
    return tuple(ast.literal_eval(_definition(module, node.id)[0]))


def _parameter(name: str, kind: Any, default: Any, text: str, special: dict[str, Any]) -> Parameter:
    """Make an option; a flag that is on unless it is left out is named ``--no-...`` by Typer."""
    names = special.pop("names", ())
    if kind is bool and default is False and not names:
        names = (f"--{name.replace('_', '-')}",)
    if get_origin(kind) is list and default is not Parameter.empty:
        default = [default] if isinstance(default, str) else list(default or ()) or None
    default = special.pop("default", default)
    wanted: Any = kind if kind is bool or default not in (None, Parameter.empty) else kind | None
    if default is Parameter.empty:
        wanted = kind
    written = special.pop("written", ())
    annotation: Any = Annotated[wanted, typer.Option(*names, help=text, **special), written]
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def as_help(text: str, names: Collection[str]) -> str:
    """Write the text of a parameter for the command line: no markup, nothing of Python alone, arguments as options."""

    def option(found: re.Match[str]) -> str:
        value = "" if found[2] in {None, "True"} else f" {found[2]}"
        return f"--{found[1].replace('_', '-')}{value}" if found[1] in names else found[0]

    text = re.sub(r"[;,] or an? `[A-Z]\w+`( that \w+ \w+)?", "", text)
    text = re.sub(r":func:`~?(?:\w+\.)*(\w+)`", lambda found: f"`{found[1].replace('_', '-')}`", text)
    text = re.sub(r'``(\w+)(?:="?(\w+)"?)?``', option, text.replace('if None or ``"auto"``', "if ``auto``"))
    return text.replace("``", "").replace("if None", "if left out").replace(_SEVERAL, "repeatable")


def _described(doc: str) -> dict[str, str]:
    """Give the text of each parameter of a numpydoc docstring."""
    section = re.search(r"\nParameters\n-+\n(.*?)(?=\n\n\w+\n-+\n|\Z)", doc, flags=re.DOTALL)
    rows = re.findall(r"^(\w[\w, ]*)\n((?:    .+\n?)+)", section[1] if section else "", flags=re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in rows for name in names.split(", ")}


@cache
def _source(module: str) -> ast.Module:
    """Parse a module of ours; a package by its ``__init__``."""
    package, *parts = module.split(".")
    path = _ROOTS[package].joinpath(*parts)
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_bytes())


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Give the statements of a module, and those that it has for types alone."""
    for node in tree.body:
        yield from node.body if isinstance(node, ast.If) else (node,)


@cache
def _definition(module: str, name: str) -> tuple[ast.AST, str]:
    """Find what a module defines or imports under a name, and the module where that stands."""
    for node in _statements(_source(module)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node, module
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == name
            and node.value
        ):
            return node.value, module
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets):
            return node.value, module
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in _ROOTS:
            for one in node.names:
                if (one.asname or one.name) == name:
                    return _definition(node.module, one.name)
    raise LookupError(f"{module} has no {name}")


def _find(function: str) -> tuple[ast.FunctionDef, str]:
    """Find a function by its full name, or a method: ``genekb.Store.search``."""
    home, _, name = function.rpartition(".")
    if home.rpartition(".")[2].istitle():
        owner, module = _definition(*home.rsplit(".", 1))
        assert isinstance(owner, ast.ClassDef), function
        found: ast.AST = next(one for one in owner.body if isinstance(one, ast.FunctionDef) and one.name == name)
    else:
        found, module = _definition(home, name)
    assert isinstance(found, ast.FunctionDef), function
    return found, module


def _kind(annotation: ast.AST, module: str) -> Any:
    """Give the type of an option: choices, a flag, a number, a path, else text."""
    names, choices = set[str](), list[str]()
    for one in _members(annotation, module):
        names |= {one.id} if isinstance(one, ast.Name) else set()
        if isinstance(one, ast.Subscript):
            choices += [str(each) for each in _literals(one)]
    if choices and not names:
        return Literal[tuple(choices)]
    for name in ("bool", "Path", "str", "float", "int"):
        if name in names:
            return _PLAIN["str" if choices else name]
    return str


def _literals(node: ast.Subscript) -> tuple[Any, ...]:
    """Give the choices of a ``Literal``; none of another type with brackets."""
    if not (isinstance(node.value, ast.Name) and node.value.id == "Literal"):
        return ()
    found = ast.literal_eval(node.slice)
    return found if isinstance(found, tuple) else (found,)


def _members(node: ast.AST, module: str) -> Iterator[ast.AST]:
    """Give the members of a union, names of other types put in their place."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _members(ast.parse(node.value, mode="eval").body, module)
    elif isinstance(node, ast.BinOp):
        yield from _members(node.left, module)
        yield from _members(node.right, module)
    elif isinstance(node, ast.Name) and node.id not in _PLAIN:
        try:
            found, where = _definition(module, node.id)
        except LookupError:
            return
        if not isinstance(found, ast.ClassDef):
            yield from _members(found, where)
    else:
        yield node


def expand_groups(command: Command, *, before: Check = lambda: None) -> Command:
    """Replace each parameter of a command that is a dataclass by one parameter for each of its fields.

    A field's annotation holds its :func:`typer.Option`, or is a dataclass again; its default is that of the parameter's
    own default, an instance of the dataclass, else that of the field. ``before`` is called once the options are read.
    """
    parameters = list(_parameters(command))

    def expanded(**values: Any) -> None:
        before()
        with show_progress(), wrong_usage():
            progress(command.__name__.strip("_"), 0, 0)
            _call(command, values)

    expanded.__name__, expanded.__doc__ = command.__name__, command.__doc__
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by Typer
    return expanded


def _parameters(target: Callable[..., Any], defaults: Any = inspect.Parameter.empty) -> Iterator[inspect.Parameter]:
    """Give the parameters of a command or a dataclass, those that are dataclasses replaced by their fields."""
    hints = get_type_hints(target, include_extras=True)
    for parameter in inspect.signature(target).parameters.values():
        hint, name = hints[parameter.name], parameter.name
        default = parameter.default if defaults is inspect.Parameter.empty else getattr(defaults, name)
        if isinstance(default, OptionsOf):
            yield from default.parameters()
        elif is_dataclass(hint):
            yield from _parameters(hint, default)  # type: ignore[arg-type]  # a class
        else:
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)


def _call(target: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Call a command, or make a dataclass, with values by the names of the options."""
    hints = get_type_hints(target)
    given = dict[str, Any]()
    for name, parameter in inspect.signature(target).parameters.items():
        if isinstance(parameter.default, OptionsOf):
            arguments = {each.name: values[each.name] for each in parameter.default.parameters()}
            given[name] = Arguments(parameter.default.function, arguments)
        else:
            given[name] = _call(hints[name], values) if is_dataclass(hints[name]) else values[name]
    return target(**given)


@contextmanager
def wrong_usage(kind: type[Exception] = ValueError) -> Iterator[None]:
    """Report arguments that our code cannot use, or that exclude one another, as wrong usage: exit code 2.

    A ``ValueError`` that no ``raise`` of ours made, as NumPy's, is a fault of the program and stays as it is.
    """
    try:
        yield
    except kind as error:
        if kind is ValueError and not _is_raised_by_us(error):
            raise
        raise typer.BadParameter(str(error)) from error


def _is_raised_by_us(error: BaseException) -> bool:
    """Whether an error, of no kind more special than ``ValueError``, comes from a ``raise`` in one of our modules."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or type(error) is not ValueError:
        return False
    frame = trace.tb_frame
    is_ours = frame.f_globals.get("__name__", "").partition(".")[0] in {"genekb", "cellmodel", "genekb_cellmodel_cli"}
    return is_ours and frame.f_code.co_code[trace.tb_lasti] == opmap["RAISE_VARARGS"]
