"""The command line's root: finds the verb, and turns every error into a message and an exit code.

A verb's module is imported when the verb is called, so that `status` pays for nothing of `run`
(0.1 s of pydantic alone).
"""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
import typer.main
from halos_backend.errors import ExitCode, HalosError, UsageError
from typer.core import TyperGroup

from halos_tui.cli.options import Ascii, NoMouse, ReadOnly, RunsDir, ThemeName, runs_root
from halos_tui.formatting import visible_lines
from halos_tui.streams import silence_stdout

VERBS = {
    "run": "run",
    "demo": "demo",
    "init": "init",
    "doctor": "doctor",
    "list": "list_runs",
    "status": "status",
    "watch": "watch",
    "attach": "attach",
    "pause": "pause",
    "resume": "resume",
    "retry": "retry",
    "set": "set_settings",
    "extend": "extend",
    "abort": "abort",
    "fork": "fork",
    "rm": "rm",
    "du": "du",
    "logs": "logs",
    "completions": "completions",
    "export": "export",
}
"""Verb -> module of this package; its function `command` is the verb."""


class Verbs(Mapping[str, Any]):
    """The verbs as commands, each made when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        module = importlib.import_module(f"halos_tui.cli.{VERBS[name]}")
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name=name)(module.command)
        return typer.main.get_command(app)

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


class VerbGroup(TyperGroup):
    """Looks verbs up lazily; the exit code of the program is what the verb returns."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = Verbs()  # type: ignore[assignment] # nobody adds to it

    def invoke(self, ctx: Any) -> Any:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except HalosError as error:
            _complain(str(error))
            code = error.exit_code
        except OSError as error:
            if error.errno == errno.EPIPE:
                silence_stdout()
                code = ExitCode.FAILED
            elif error.filename is None:
                raise
            else:
                _complain(f"{error.filename}: {error.strerror}")
                code = ExitCode.FAILED
        raise typer.Exit(int(code or 0))


app = typer.Typer(
    cls=VerbGroup,
    add_completion=False,
    rich_markup_mode=None,  # plain help: importing rich for it costs 0.1 s
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    runs_dir: RunsDir = None,
    read_only: ReadOnly = False,
    ascii: Ascii = False,
    no_mouse: NoMouse = False,
    theme: ThemeName = None,
) -> int | None:
    """Online alignment of language models in rounds: sample, label, train.

    Without a command: the app, with the list of runs. Leaving it never touches a run.

    Exit codes: 0 completed, 1 failed, 2 usage or configuration, 3 aborted, 4 no such run,
    5 run in use, 6 unfinished (paused or detached).
    """
    if version:
        from halos_backend import __version__

        typer.echo(f"halos-tui {__version__}")
    elif ctx.invoked_subcommand is None:
        from halos_tui.app_options import AppOptions
        from halos_tui.cli.opening import open_app

        options = AppOptions(runs_root(runs_dir), read_only, ascii, not no_mouse, theme)
        return open_app(options)
    elif any((read_only, ascii, no_mouse, theme, runs_dir)):
        verb = ctx.invoked_subcommand
        raise UsageError(f"the options of {verb} stand behind it: halos-tui {verb} ... --OPTION")
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="halos-tui")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.FAILED
    return ExitCode.COMPLETED


def _complain(text: str) -> None:
    print(f"halos-tui: {visible_lines(text)}", file=sys.stderr)  # noqa: T201
