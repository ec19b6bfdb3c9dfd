"""Owns the command line's root: finds the verb, turns every error into a message and an exit code.

A verb's module is imported when the verb is called, so that `status` pays for nothing of `run` (0.1
s of pydantic alone).
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Annotated, Any

import typer
import typer.main
from halos_backend.errors import ExitCode, HalosError, UsageError
from typer.core import TyperGroup
from typer.exceptions import TyperException

from halos_tui.cli import shells
from halos_tui.cli.options import Ascii, NoMouse, ReadOnly, RunsDir, ThemeName, runs_root
from halos_tui.commands import NAME, VERBS, as_called
from halos_tui.formatting import visible_lines
from halos_tui.headless.streams import prepare_streams, silence_stdout

GLOBAL = ("runs_dir", "read_only", "ascii", "no_mouse", "theme")
"""These options of the program stand before or behind any verb."""
CHANGING_VERBS = (
    "pause",
    "resume",
    "retry",
    "set",
    "extend",
    "abort",
    "fork",
    "title",
    "note",
    "tag",
    "rm",
)
"""These verbs change runs, so that none goes with --read-only."""
STREAM_FAILURES = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Writing to standard output may fail with one of these; such an error names no file."""


class Verbs(Mapping[str, Any]):
    """Holds the verbs as commands, each made when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        module = importlib.import_module(f"halos_tui.cli.{VERBS[name]}")
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name=name)(getattr(module, "command", None) or getattr(module, name))
        return typer.main.get_command(app)

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


class VerbGroup(TyperGroup):
    """Looks verbs up when they are called; the program's exit code is what the verb returns."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = Verbs()  # type: ignore[assignment] # nobody adds to it

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Returns the verb, which takes the options of the program too, even those that it does not
        use.
        """
        command = super().get_command(ctx, cmd_name)
        if command is None:
            return None
        own = {parameter.name for parameter in command.params}
        for parameter in self.params:
            if parameter.name in GLOBAL and parameter.name not in own:
                taken = copy(parameter)
                taken.hidden, taken.expose_value = True, False  # type: ignore[attr-defined]
                if parameter.name == "read_only" and cmd_name in CHANGING_VERBS:
                    taken.callback = _refuse
                command.params.append(taken)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except HalosError as error:
            _complain(str(error))
            code = error.exit_code
        except OSError as error:
            code = _failed_call(error)
        except (TyperException, typer.Exit, typer.Abort):
            raise
        except Exception as error:  # noqa: BLE001  the edge of the process
            _complain_of_defect(error)
            code = ExitCode.FAILED
        raise typer.Exit(int(code or 0))


app = typer.Typer(
    cls=VerbGroup,
    rich_markup_mode=None,  # plain help: importing rich for it costs 0.1 s
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


shells.offer_completion()


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    runs_dir: RunsDir = None,
    read_only: ReadOnly = False,
    ascii: Ascii = False,
    no_mouse: NoMouse = False,
    theme: ThemeName = None,
) -> None:
    """Online alignment of language models in rounds: sample, label, train.

    Without a command: the app, with the list of runs. Leaving it never touches a run.

    Exit codes: 0 completed, 1 failed, 2 usage or configuration, 3 aborted, 4 no such run,
    5 run in use, 6 left unfinished by who followed it (paused or detached).
    """
    if version:
        from halos_backend import __version__

        typer.echo(f"halos-tui {__version__}")
    elif ctx.invoked_subcommand is None:
        from halos_tui.app_options import AppOptions
        from halos_tui.cli.opening import open_app

        options = AppOptions(runs_root(runs_dir), read_only, ascii, not no_mouse, theme)
        open_app(options)
    else:
        before = {name: value for name in GLOBAL if (value := ctx.params[name])}
        ctx.default_map = {ctx.invoked_subcommand: before}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    prepare_streams()
    try:
        app(args=None if arguments is None else list(arguments), prog_name=NAME)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.FAILED
    return ExitCode.COMPLETED


def _refuse(ctx: Any, _parameter: Any, value: Any) -> Any:
    if value and not ctx.resilient_parsing:
        raise UsageError(f"{ctx.info_name} changes a run, and --read-only forbids that")
    return value


def _failed_call(error: OSError) -> ExitCode:
    """Words an error of a file that cannot be used, or of a standard output that takes no more."""
    if error.filename is not None:
        _complain(f"{os.fsdecode(error.filename)}: {error.strerror}")
    elif error.errno in STREAM_FAILURES:
        silence_stdout()
        if error.errno != errno.EPIPE:
            _complain(f"standard output: {error.strerror}")
    else:
        _complain_of_defect(error)
    return ExitCode.FAILED


def _complain_of_defect(error: Exception) -> None:
    from halos_backend.defects import tell_defect  # traceback and platformdirs: 0.02 s

    _complain(tell_defect(error))


def _complain(text: str) -> None:
    print(f"{NAME}: {visible_lines(as_called(text))}", file=sys.stderr)  # noqa: T201
