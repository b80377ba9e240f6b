"""The commands put together, and every error turned into one message and an exit code."""

from __future__ import annotations

import importlib.metadata
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from undercroft.cli import breakers, context, diff, doctor, reading, replay, sessions, tail, turns
from undercroft.cli.console import complain
from undercroft.cli.demo import story
from undercroft.errors import UndercroftError


class _Group(TyperGroup):
    """Turns what a command raises into one message on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(130)
        except UndercroftError as error:
            self._refuse(ctx, error)
        except Exception as error:
            if isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "exit_code"):
                raise  # the parser's own, such as an unknown option
            error.add_note("That should not happen. undercroft --traceback … shows where it did.")
            self._refuse(ctx, error)

    def _refuse(self, ctx: Any, error: Exception) -> None:
        if ctx.params.get("show_traceback"):
            traceback.print_exc()
        else:
            complain(error)
        ctx.exit(2)


app = typer.Typer(
    cls=_Group,
    name="undercroft",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with: undercroft demo",
)


def _version(wanted: bool) -> None:  # noqa: FBT001  as Typer calls it
    if wanted:
        try:
            version = importlib.metadata.version("undercroft")
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        sys.stdout.write(f"undercroft {version}\n")
        raise typer.Exit


@app.callback()
def undercroft(
    *,
    show_traceback: Annotated[
        bool,
        typer.Option("--traceback", metavar="", help="With an error, show where it comes from."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            help="Print the version.",
            callback=_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """The layer under AI workflows that makes them reliable.

    Results go to stdout, progress and complaints to stderr.

    Exit codes: 0 done or clean, 1 failed or findings, 2 could not run.
    """
    del show_traceback, version  # read by the group and by the callback


_COMMANDS = (
    ("Run", turns.run, """undercroft run app.py:flow --input '{"email": "ada@example.com"}'"""),
    ("Run", turns.resume, "undercroft resume last"),
    ("Run", turns.approve, "undercroft approve last gate.6 --by ada"),
    ("Run", turns.reject, 'undercroft reject last gate.6 --by ada --reason "too dear"'),
    ("Run", turns.settle, "undercroft settle last send.7 --not-applied --by ada"),
    ("Look", reading.turns, "undercroft turns --status waiting"),
    ("Look", reading.show, "undercroft show last --step send.7"),
    ("Look", diff.diff, "undercroft diff last t-019a"),
    ("Look", tail.tail, "undercroft tail --session s-1"),
    ("Look", sessions.sessions, "undercroft sessions s-1"),
    ("Look", doctor.doctor, "undercroft doctor trace.json"),
    ("Look", replay.replay, "undercroft replay last --from model.4"),
    ("Look", context.context, "undercroft context s-1 --items"),
    ("Look", reading.check, "undercroft check app.py:flow"),
    ("Look", story.demo, "undercroft demo --keep my-demo"),
)

for panel, function, example in _COMMANDS:
    app.command(rich_help_panel=panel, epilog=f"Example: {example}")(function)
app.add_typer(
    breakers.app,
    name="breakers",
    rich_help_panel="Look",
    epilog="Example: undercroft breakers --watch",
)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # What a terminal cannot show is shown as an escape, rather than an error.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="undercroft")
