"""How a command ends: errors of ours in one line with their exit code; a traceback only under --debug."""

import inspect
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated, Any, Final, Self, get_args

import typer
import typer.main
from typer.core import TyperGroup

from genekb.core.addresses import looks_like_address
from genekb.core.messages import did_you_mean, from_shell, printable
from genekb.files.endings import check_ending
from genekb_cellmodel_cli.app.completion import complete
from genekb_cellmodel_cli.app.options import RECIPES, complete_recipe
from genekb_cellmodel_cli.app.output import (
    PrintableFormatter,
    StderrHandler,
    as_options,
    complain,
    name_options_of,
    print_lines,
    print_traceback,
)
from genekb_cellmodel_cli.app.panels import PanelCommand, command_panels
from genekb_cellmodel_cli.app.signature import Check, Command, expand_groups, wrong_usage

INTERRUPTED: Final = 130  # for SIGTERM too: whoever starts commands has to know one number
_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_SAME_S: Final = 1.0  # signals so close together are one: `timeout` sends two
_LONGEST_END_S: Final = 10.0  # for threads and exit handlers, after the line has been printed
_KEPT: Final = "every file that was written is whole; run the same command again"


class Interruption:
    """While a command runs, signals raise KeyboardInterrupt; a second one, a second later, ends it at once.

    Ending at once does no harm to files: they are written so that even SIGKILL leaves them whole. A signal that is
    ignored (nohup, a job in the background) stays ignored, and a handler that is not Python's own stays in place.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: float | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
                if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
                    self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        is_ending = isinstance(error, SystemExit) and error.code == INTERRUPTED
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if is_ending else handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            logging.disable()  # threads whose connections are closed now would say that they failed
            raise KeyboardInterrupt
        if now - self._first > _SAME_S:
            self._say(_KEPT)
            os._exit(INTERRUPTED)

    def end(self, error: BaseException, *, is_debug: bool = False) -> None:
        """Exit with 130 and a line on stderr if an interrupt is behind an error; else return.

        Libraries turn KeyboardInterrupt into errors of their own, so any error after a signal is taken for one.
        """
        code = error.code if isinstance(error, SystemExit) else None
        is_interrupt = isinstance(error, KeyboardInterrupt) or code == INTERRUPTED
        has_finished = isinstance(error, SystemExit) and not code
        if not is_interrupt and (self._first is None or has_finished):
            return
        if is_debug:
            print_traceback(type(error), error, error.__traceback__)
        self._say("; ".join(_notes(error)) or _KEPT)
        ending = threading.Timer(_LONGEST_END_S, os._exit, (INTERRUPTED,))
        ending.daemon = True
        ending.start()
        raise SystemExit(INTERRUPTED) from error

    def _say(self, what: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that was closed takes no line
            complain(f"{self._name}: interrupted; {what}")


def _notes(error: BaseException | None) -> Iterator[str]:
    """Give what was noted on the interrupts behind an error, see :mod:`genekb.core.resources`."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            yield from getattr(error, "__notes__", ())
        error = error.__cause__ or error.__context__


EXIT_CODES = {
    "TrainingDiverged": 1,
    "UnknownName": 2,
    "KeyUnusable": 2,
    "OutputUnusable": 3,
    "SourceUnusable": 3,
    "CoverageTooLow": 3,
    "InputUnusable": 3,
    "MemoryLimitReached": 3,
    "NotAvailable": 4,
    "StoreBusy": 4,
    "EncoderFailed": 5,
    "StoreCorrupt": 5,
    "SchemaMismatch": 5,
    "LineageMismatch": 5,
}
MOVED: Final = {  # commands that went, and their successors
    "cellmodel ablate": "cellmodel bench --off",
    "cellmodel embed": "cellmodel cluster --no-clusters",
    "cellmodel export cellxgene": "cellmodel export FILE --to cellxgene",
    "cellmodel export graph": "cellmodel export FILE --to graph",
    "cellmodel graph": "cellmodel export FILE --to graph",
    "cellmodel lock": "genekb lock",
    "cellmodel model lock": "genekb lock",
    "cellmodel perturb-eval": "cellmodel perturb --truth",
    "cellmodel pull": "cellmodel model pull",
    "cellmodel push": "cellmodel model push",
    "cellmodel sweep": "cellmodel bench --set",
    "cellmodel model sync": "cellmodel model pull",
    "cellmodel sync": "cellmodel model pull",
    "genekb fetch": "genekb download --gene",
    "genekb import": "genekb encode --vectors",
    "genekb keygen": "genekb verify --sign KEY --new-key",
    "genekb list": "genekb info",
    "genekb models": "genekb info --models",
    "genekb path": "genekb info --path",
    "genekb sign": "genekb verify --sign KEY",
    "genekb sync": "genekb pull",
}
_ANYWHERE: Final = ("-q", "--quiet", "-v", "--verbose", "--debug")  # flags of the program
PIPE_CLOSED = 141  # what a shell shows of a program that SIGPIPE ended
_state = {"debug": False}
_reserve = [bytearray(1 << 22)]  # released when a command fails, so that no memory left can still be reported


class QuickGroup(TyperGroup):
    """A group whose flags are False where they are not given, and whose ``--max-memory`` is text as it was given.

    Typer gives None to --help and to the completion flags, and loads pydantic to check a None, or text: 0.1 s for every
    command.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take flags of the program after the command's name, too: `cellmodel cluster ... --quiet`."""
        if ctx.parent is None and not ctx.resilient_parsing:
            end = args.index("--") if "--" in args else len(args)
            flags = [word for word in args[:end] if word in _ANYWHERE]
            args = [*flags, *(word for word in args[:end] if word not in _ANYWHERE), *args[end:]]
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """List the parameters, --help among them."""
        params = super().get_params(ctx)
        for param in params:
            if getattr(param, "is_flag", False) and param.default is None:
                param.default = False
            if param.name == "max_memory":
                param.process_value = _limit_memory  # type: ignore[method-assign,assignment]  # as an instance has it
        return params

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors name its options, usage errors suggest the choice that was probably meant."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if exit_code(error) is not None:
                error.args = tuple(as_options(each) if isinstance(each, str) else each for each in error.args)
            if isinstance(error, typer.BadParameter) and ctx.parent is None:
                _suggest(error)
            if hasattr(error, "format_message"):  # as every usage error has
                error.message = printable(as_options(error.message))  # type: ignore[attr-defined]  # beside it
            raise

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find a command; none of its paths may be an address. While a shell completes, it knows the names it takes."""
        command = super().get_command(ctx, cmd_name)
        make = getattr(inspect.unwrap(command.callback), "make", None) if command and command.callback else None
        if make is not None:
            program = typer.Typer(add_completion=False, rich_markup_mode=None)
            program.command(cmd_name, cls=PanelCommand)(make())
            command = self.commands[cmd_name] = typer.main.get_command(program)
        if command is not None:
            _check_paths(command)
            if ctx.resilient_parsing:
                complete(command)
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command, and the names of recipes where it takes one; one that went names its successor."""
        for words in (" ".join([ctx.command_path, *args[:number]]) for number in (1, 2)):
            if words in MOVED:
                raise typer.BadParameter(f"`{words}` went; use `{MOVED[words]}`")
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            name_options_of(command)
        for param in command.params if command else ():
            if param.metavar == RECIPES:
                param.metavar = f"<{'|'.join(complete_recipe(''))}>"
        return name, command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the first sentence of every command whole, over as many lines as it needs."""
        found = ((name, self.commands[name]) for name in self.list_commands(ctx))
        texts = [(name, (command.help or "").split("\n\n")[0]) for name, command in found]
        for title, rows in command_panels(ctx.info_name if ctx.parent is None else "", texts):
            with formatter.section(title):
                formatter.write_dl(rows)


def _print_version(ctx: typer.Context, is_asked: bool) -> None:
    if is_asked:
        from genekb import __version__

        print_lines([f"{ctx.info_name} {__version__}"])
        raise typer.Exit


def _limit_memory(_: typer.Context, value: str) -> str:
    """Limit the memory of this command, before its work begins."""
    from genekb.core.resources import limit_memory, parse_size

    with wrong_usage():
        limit_memory(parse_size(value) if value else None)
    return value


def common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only warnings and errors on stderr.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="More on stderr.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    max_memory: Annotated[
        str,
        typer.Option(
            help="End where more memory is needed, such as 8GB; what the machine has if left out.",
            metavar="SIZE",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Options before the command's name."""
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, handlers=[handler := StderrHandler()], force=True)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    for name in ("genekb", "cellmodel"):
        logging.getLogger(name).setLevel(level)
    _state["debug"] = debug


def _suggest(error: Any) -> None:
    """Add to a refused choice the one that was probably meant."""
    choices = getattr(getattr(error.param, "type_descriptor", None), "choices", None)
    if choices:
        message = error.message.removeprefix("Value error, ").rstrip(".")
        error.message = message + did_you_mean(message.partition(" is not")[0][1:-1], map(str, choices))


def _check_paths(command: Any) -> None:
    """Have the parameters of a command that are paths refuse an address, and those of outputs another ending."""
    if command.callback is None:  # a group, whose commands do
        return
    hints = inspect.unwrap(command.callback).__annotations__
    for param in command.params:
        if _holds_path(hints.get(param.name)):
            param.callback = partial(_check_path, written_kinds(hints[param.name]))


def written_kinds(hint: Any) -> tuple[str, ...]:
    """Give the kinds of output that the annotation of a path holds; none of an input, or a folder."""
    return next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, tuple)), ())


def _holds_path(hint: Any) -> bool:
    """Whether an annotation is, or has in it, :class:`Path`, as ``Annotated[list[Path] | None, ...]`` has."""
    return hint is Path or any(map(_holds_path, get_args(hint)))


def _check_path(kinds: tuple[str, ...], _: Any, __: Any, value: Any) -> Any:
    """Give a path, or paths, back: none is an address, which would become a folder, and each is of one of the kinds."""
    for path in value if isinstance(value, list | tuple) else [value]:
        if path is not None and looks_like_address(str(path)):
            raise typer.BadParameter(f"{path} is an address; bring it to this machine and give its path")
        if path is not None and kinds:
            check_ending(path, *kinds, error=typer.BadParameter)
    return value


def make_app(name: str, help_text: str, commands: Mapping[str, Command | typer.Typer], **more: Any) -> typer.Typer:
    """Make a program of its commands, see :func:`make_group`."""
    return make_group(help_text, commands, name=name, callback=common, **more)


def make_group(
    help_text: str, commands: Mapping[str, Command | typer.Typer], *, before: Check = lambda: None, **more: Any
) -> typer.Typer:
    """Make a group of commands, whose option groups become options; ``before`` is called before each command."""
    app = typer.Typer(
        help=help_text,
        cls=QuickGroup,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # rich would take half of the time of --help
        **more,
    )
    for word, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=word)
        else:
            app.command(word)(_named(command, before))
    return app


def _named(command: Command, before: Check) -> Command:
    """Give a command by name and text; ``make`` adds its options once it is asked for, as those of all take 0.2 s."""

    def named() -> None:
        raise NotImplementedError

    named.__name__, named.__doc__ = command.__name__, command.__doc__
    named.make = partial(expand_groups, command, before=before)  # type: ignore[attr-defined]  # read by QuickGroup
    return named


def exit_code(error: BaseException) -> int | None:
    """Exit code of one of our errors, by the nearest class that has one; None for any other error."""
    for kind in type(error).__mro__:
        if kind.__module__.split(".")[0] in {"genekb", "cellmodel"} and kind.__name__ in EXIT_CODES:
            return EXIT_CODES[kind.__name__]
    return None


def run(app: typer.Typer, name: str) -> None:
    """Run a command line and exit with the code of what happened."""
    # Waiting threads that spin make everything many times slower where other programs use the cores as well.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Blocks of cells are worked on side by side; threads of OpenBLAS within each cost a quarter more processor time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Arrow's own pool keeps what decompressing the tables of a store took, several times the tables.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if sys.stderr is None:  # closed (2>&-); a file that is opened next would take its number, and what is printed there
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - no path, and open to the end
    with Interruption(name) as interruption:
        asked = from_shell.set(True)
        try:
            app(prog_name=name)
        except (KeyboardInterrupt, SystemExit, Exception) as error:
            _reserve.clear()
            interruption.end(error, is_debug=_state["debug"])
            _end(error, name)
            sys.excepthook = print_traceback
            raise
        finally:
            from_shell.reset(asked)


def known_fault(error: BaseException) -> tuple[int, str] | None:
    """Exit code and line of wrong usage or an error of ours, or of a resource or extra that lacks; None for others."""
    from genekb.core.plugins import missing_extra
    from genekb.core.resources import resource_fault

    if hasattr(error, "format_message"):  # as every usage error has
        return 2, error.format_message()
    error = resource_fault(error) or missing_extra(error) or error
    code = exit_code(error)
    return None if code is None else (code, " ".join(str(error).split()))


def _end(error: BaseException, name: str) -> None:
    """Exit as an error of ours says, or as programs do whose reader has gone; return for any other error."""
    if isinstance(error, SystemExit):
        if isinstance(error.__context__, BrokenPipeError):
            sys.exit(PIPE_CLOSED)
        return
    fault = known_fault(error)
    if fault is not None and not _state["debug"]:
        complain(f"{name}: error: {fault[1]}")
        sys.exit(fault[0])
