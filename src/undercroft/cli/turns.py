"""The commands that run turns: run, resume, approve, reject, settle."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, TypeVar

import typer
from rich.text import Text

from undercroft.app import Runtime, SystemIds
from undercroft.cli.console import complain, err, out, print_command
from undercroft.cli.inputs import read_inputs, read_json
from undercroft.cli.load import importable_from_here, load_model, load_target, load_targets
from undercroft.cli.options import DB_DEFAULT, By, Db, Json, Model, Reason, Step, Targets, Turn
from undercroft.cli.outcome import exit_code, print_outcome
from undercroft.cli.plain import print_json
from undercroft.cli.problem import CannotRunError, StoppedError
from undercroft.cli.progress import watched
from undercroft.cli.signals import run_until_stopped
from undercroft.cli.steps import find_step
from undercroft.cli.where import Where, needs_naming
from undercroft.engine.handler import Handler
from undercroft.engine.targets import Target
from undercroft.errors import DeclarationError, TargetError, UndercroftError
from undercroft.model.outcome import Outcome
from undercroft.model.trace import Trace
from undercroft.queries import read_trace

T = TypeVar("T")


class _NotedIds(SystemIds):
    """Remembers the turn that was begun, so that whoever stops it can be told its name."""

    def __init__(self, turn_id: str | None = None) -> None:
        self.turn_id = turn_id
        self.begun = False

    def turn(self, at: float) -> str:
        self.turn_id, self.begun = super().turn(at), True
        return self.turn_id


def run(  # noqa: PLR0913  each parameter is one option
    target: Annotated[
        str,
        typer.Argument(
            metavar="APP:FLOW",
            help="A workflow or handler: path/to/app.py:flow or package.module:flow.",
            show_default=False,
        ),
    ],
    input_json: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="JSON",
            help="Its inputs as one JSON object; `-` reads stdin, `@file.json` a file.",
        ),
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="The conversation it belongs to.")
    ] = None,
    db: Db = DB_DEFAULT,
    model: Model = None,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="SECONDS", help="End the turn as failed after this; 3600 if left out."
        ),
    ] = None,
    as_json: Json = False,  # noqa: FBT002  an option
) -> None:
    """Run a turn of a workflow or handler until it ends or has to wait."""
    goal = load_target(target)
    inputs = read_inputs(goal, input_json)
    where = Where(db, (target,) if needs_naming(target) else (), model)
    ids = _NotedIds()
    try:
        outcome = _with_runtime(
            where,
            [goal],
            ids,
            lambda rt: rt.run(goal, session=session, timeout_s=timeout_s, **inputs),
        )
    except DeclarationError as error:
        raise _model_hint(error, goal, where) from error
    _print_and_exit(outcome, where, as_json=as_json)


def resume(  # noqa: PLR0913  each parameter is one option
    turn: Annotated[
        str | None,
        typer.Argument(
            metavar="TURN",
            help="A turn's id, the beginning of it, or `last`.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every turn that was stopped or whose process died.")
    ] = False,  # noqa: FBT002  an option
    db: Db = DB_DEFAULT,
    model: Model = None,
    targets: Targets = None,
    as_json: Json = False,  # noqa: FBT002  an option
) -> None:
    """Go on with a turn that was stopped or killed; what is recorded does not run again."""
    where = Where(db, tuple(targets or ()), model)
    if everything == (turn is not None):
        raise CannotRunError(
            "resume", "it takes one turn, or --all", "Name one: undercroft resume last."
        )
    where.must_exist()
    if turn is not None:
        trace = read_trace(db, turn)
        outcome = _on_turn(where, trace, lambda rt: rt.resume(trace.turn_id))
        _print_and_exit(outcome, where, as_json=as_json)
    outcomes = _with_runtime(where, load_targets(where.targets), _NotedIds(), Runtime.recover)
    if as_json:
        print_json(outcomes)
    elif not outcomes:
        out().print(Text("Nothing to resume: every turn has ended or waits for a person."))
    for turn_id, said in outcomes.items() if not as_json else ():
        if isinstance(said, Outcome):
            print_outcome(out(), said, where)
        else:
            complain(_target_hint(said) if isinstance(said, TargetError) else said)
            err().print(Text(f"  {turn_id} was left as it is.", style="dim"))
    codes = [exit_code(o) if isinstance(o, Outcome) else 2 for o in outcomes.values()]
    raise typer.Exit(max(codes, default=0))


def approve(  # noqa: PLR0913  each parameter is one option
    turn: Turn,
    by: By,
    step: Step = None,
    reason: Reason = "",
    db: Db = DB_DEFAULT,
    model: Model = None,
    targets: Targets = None,
    as_json: Json = False,  # noqa: FBT002  an option
) -> None:
    """Say yes to a step that waits, and go on with its turn. Twice is as good as once."""
    where = Where(db, tuple(targets or ()), model)
    where.must_exist()
    trace = read_trace(db, turn)
    name = find_step(trace, step).step_id if step else None
    outcome = _on_turn(
        where, trace, lambda rt: rt.approve(trace.turn_id, name, by=by, reason=reason)
    )
    _print_and_exit(outcome, where, as_json=as_json)


def reject(  # noqa: PLR0913  each parameter is one option
    turn: Turn,
    by: By,
    step: Step = None,
    reason: Reason = "",
    db: Db = DB_DEFAULT,
    model: Model = None,
    targets: Targets = None,
    as_json: Json = False,  # noqa: FBT002  an option
) -> None:
    """Say no to a step that waits, and go on with its turn."""
    where = Where(db, tuple(targets or ()), model)
    where.must_exist()
    trace = read_trace(db, turn)
    name = find_step(trace, step).step_id if step else None
    outcome = _on_turn(
        where, trace, lambda rt: rt.reject(trace.turn_id, name, by=by, reason=reason)
    )
    _print_and_exit(outcome, where, as_json=as_json)


def settle(  # noqa: PLR0913  each parameter is one option
    turn: Turn,
    applied: Annotated[
        bool,
        typer.Option(
            "--applied/--not-applied",
            help="It had happened / it had not, and is done now.",
            show_default=False,
        ),
    ],
    by: By,
    step: Step = None,
    value: Annotated[
        str | None,
        typer.Option(
            "--value", metavar="JSON", help="What the step would have returned, if it happened."
        ),
    ] = None,
    db: Db = DB_DEFAULT,
    model: Model = None,
    targets: Targets = None,
    as_json: Json = False,  # noqa: FBT002  an option
) -> None:
    """Say whether a write in doubt had happened, and go on with its turn."""
    where = Where(db, tuple(targets or ()), model)
    where.must_exist()
    if value is not None and not applied:
        raise CannotRunError(
            "--value", "a write that did not happen has none", "Leave it out, or say --applied."
        )
    result: Any = None if value is None else read_json("--value", value)
    trace = read_trace(db, turn)
    name = find_step(trace, step).step_id if step else None
    outcome = _on_turn(
        where,
        trace,
        lambda rt: rt.settle(trace.turn_id, name, applied=applied, by=by, value=result),
    )
    _print_and_exit(outcome, where, as_json=as_json)


def _on_turn(
    where: Where, trace: Trace, work: Callable[[Runtime], Awaitable[Outcome]]
) -> Outcome:
    """Do `work` about a turn of the journal, with its code."""
    targets = load_targets(where.targets)
    try:
        return _with_runtime(where, targets, _NotedIds(trace.turn_id), work)
    except TargetError as error:
        raise _target_hint(error) from error
    except DeclarationError as error:
        raise _model_hint(error, None, where) from error


def _with_runtime(
    where: Where,
    targets: Iterable[Target],
    ids: _NotedIds,
    work: Callable[[Runtime], Awaitable[T]],
) -> T:
    """Do `work` with a runtime; told to stop, say how to go on."""
    importable_from_here()
    client = load_model(where.model)

    async def main() -> T:
        async with Runtime(where.db, model=client, targets=targets, ids=ids) as rt:
            async with watched(rt, lambda: ids.turn_id):
                return await work(rt)

    try:
        return run_until_stopped(main, _say_stopping)
    except (StoppedError, KeyboardInterrupt) as error:
        number = error.signal_number if isinstance(error, StoppedError) else 2
        _say_stopped(ids.turn_id, where)
        raise typer.Exit(128 + number) from error
    except UndercroftError as error:
        if ids.begun and ids.turn_id is not None:
            line = where.resuming("resume", ids.turn_id)
            error.add_note(f"The turn was begun; resume it with: {shlex.join(line)}")
        raise


def _say_stopping() -> None:
    if err().is_terminal:
        text = "stopping: writes under way may end first; Ctrl-C again stops at once"
        err().print(Text(text, style="dim"))


def _say_stopped(turn_id: str | None, where: Where) -> None:
    err().print(Text("stopped; resume with:", style="yellow"))
    words = ("resume", turn_id) if turn_id else ("resume", "--all")
    print_command(err(), where.resuming(*words))


def _target_hint(error: TargetError) -> CannotRunError:
    return CannotRunError(
        f"Turn {error.turn_id}",
        error.problem,
        "Be in the folder that it was run from, or name its code: --target path/to/app.py:flow.",
    )


def _model_hint(
    error: DeclarationError, target: Target | None, where: Where
) -> DeclarationError | CannotRunError:
    """Return what to say of a declaration that cannot be run; a model can be given here too."""
    if where.model or not error.place.startswith("handler") or "model" not in error.problem:
        return error
    if isinstance(target, Handler) and target.model is not None:
        return error
    return CannotRunError(error.place, error.problem, "Give one: --model path/to/app.py:model.")


def _print_and_exit(outcome: Outcome, where: Where, *, as_json: bool) -> None:
    if as_json:
        print_json(outcome)
    else:
        print_outcome(out(), outcome, where)
    raise typer.Exit(exit_code(outcome))
