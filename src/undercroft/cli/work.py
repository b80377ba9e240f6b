"""A runtime opened for one command: stopped by signals, watched on a terminal, with hints.

Keeps: whoever stops a command is told how to go on; an error says what to write on the
command line, and not what to write in Python.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import typer
from rich.text import Text

from undercroft.app import Runtime
from undercroft.cli.console import err, print_command
from undercroft.cli.load import importable_from_here, load_model, load_targets
from undercroft.cli.problem import CannotRunError, StoppedError
from undercroft.cli.progress import Progress
from undercroft.cli.signals import run_until_stopped
from undercroft.cli.where import Where
from undercroft.engine.handler import Handler
from undercroft.engine.system import SystemIds
from undercroft.engine.targets import Target
from undercroft.errors import DeclarationError, TargetError, UndercroftError
from undercroft.model.outcome import Outcome
from undercroft.model.trace import Trace

T = TypeVar("T")


class NotedIds(SystemIds):
    """Remembers the turn that was begun, so that whoever stops it can be told its name."""

    def __init__(self, turn_id: str | None = None) -> None:
        self.turn_id = turn_id
        self.begun = False

    def turn(self, at: float) -> str:
        """Return a new id, and remember it."""
        self.turn_id, self.begun = super().turn(at), True
        return self.turn_id


@contextmanager
def only_results(*, as_json: bool) -> Iterator[None]:
    """With --json, send to stderr what a user's own code prints: stdout holds one document."""
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def on_turn(where: Where, trace: Trace, work: Callable[[Runtime], Awaitable[Outcome]]) -> Outcome:
    """Do `work` about a turn of the journal, with its code."""
    targets = load_targets(where.targets)
    try:
        return with_runtime(where, targets, NotedIds(trace.turn_id), work)
    except TargetError as error:
        raise target_hint(error) from error
    except DeclarationError as error:
        raise model_hint(error, None, where) from error


def with_runtime(
    where: Where,
    targets: Iterable[Target],
    ids: NotedIds,
    work: Callable[[Runtime], Awaitable[T]],
) -> T:
    """Do `work` with a runtime; told to stop, say how to go on."""
    importable_from_here()
    client = load_model(where.model)
    secrets = read_secrets(where.secrets)

    progress = Progress(lambda: ids.turn_id)

    async def main() -> T:
        async with (
            Runtime(where.db, model=client, targets=targets, ids=ids) as rt,
            progress.watching(rt),
        ):
            rt.learn(secrets)
            return await work(rt)

    try:
        return run_until_stopped(main, progress.stopping)
    except (StoppedError, KeyboardInterrupt) as error:
        number = error.signal_number if isinstance(error, StoppedError) else 2
        _say_stopped(ids.turn_id, where)
        raise typer.Exit(128 + number) from error
    except UndercroftError as error:
        if ids.begun and ids.turn_id is not None:
            line = where.resuming("resume", ids.turn_id)
            error.add_note(f"The turn was begun; resume it with: {shlex.join(line)}")
        raise


def read_secrets(path: str | None) -> list[Any]:
    """Return the values that a file lists.

    Raises:
        CannotRunError: It cannot be read, or is no list; what it holds is not shown.
    """
    if path is None:
        return []
    try:
        found = msgspec.json.decode(Path(path).read_bytes())
    except OSError as error:
        raise CannotRunError(path, f"{error.strerror}", "Name a file: --secrets FILE.") from error
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, list):
        raise CannotRunError(
            path, "it is no list of values", 'Write it as JSON: ["…", "…"].'
        ) from None
    return found


def _say_stopped(turn_id: str | None, where: Where) -> None:
    err().print(Text("stopped; resume with:", style="yellow"))
    words = ("resume", turn_id) if turn_id else ("resume", "--all")
    print_command(err(), where.resuming(*words))


def target_hint(error: TargetError) -> CannotRunError:
    """Return what to say of code that cannot be found: what to write on the command line."""
    return CannotRunError(
        f"Turn {error.turn_id}",
        error.problem,
        "Be in the folder that it was run from, or name its code: --target path/to/app.py:flow.",
    )


def model_hint(error: DeclarationError, target: Target | None, where: Where) -> CannotRunError:
    """Return what to say of a declaration that cannot be run; a model can be given here too."""
    mend = error.mend
    own = isinstance(target, Handler) and target.model is not None
    if error.place.startswith("handler") and "model" in error.problem and not (where.model or own):
        mend = "Give one: --model path/to/app.py:model."
    return CannotRunError(error.place, error.problem, mend)
