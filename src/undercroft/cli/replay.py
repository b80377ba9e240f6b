"""`undercroft replay TURN`: a recorded turn run once more, on a copy of its journal."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from undercroft.cli.console import out, say, sign
from undercroft.cli.load import importable_from_here, load_model, load_target, load_targets
from undercroft.cli.options import DB_DEFAULT, Db, Json, Model, Secrets, Targets, Turn
from undercroft.cli.outcome import print_outcome
from undercroft.cli.plain import print_json
from undercroft.cli.problem import CannotRunError
from undercroft.cli.safe import as_text, brief, safe
from undercroft.cli.signals import run_until_stopped
from undercroft.cli.where import Where
from undercroft.cli.work import only_results, read_secrets, target_hint
from undercroft.errors import TargetError
from undercroft.queries import read_trace
from undercroft.replays import Divergence, Replay
from undercroft.replays import replay as run_again

_ENDS = {
    "ended": "up to its end",
    "parked": "up to where it waits for a person",
    "cut off": "up to where it was cut off",
}
_CONTEXT_CHARS = 24


def replay(  # noqa: PLR0913  each parameter is one option
    *,
    turn: Turn,
    from_step: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STEP",
            help="Go on live from this step, such as model.4: its model and reads are asked again.",
            show_default=False,
        ),
    ] = None,
    effects: Annotated[
        bool,
        typer.Option(
            "--effects", metavar="", help="With --from: call what changes the world, too."
        ),
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="APP:FLOW",
            help="Run this in place of the code that is recorded, such as a new version of it.",
            show_default=False,
        ),
    ] = None,
    db: Db = DB_DEFAULT,
    model: Model = None,
    targets: Targets = None,
    secrets: Secrets = None,
    as_json: Json = False,
) -> None:
    """Run a recorded turn once more: real code, no model and no tool called.

    Says whether every prompt and the reply are the same, byte for byte, or
    names the first thing that is not. The journal is only read.

    With --from STEP the copy goes on live from there. Steps that change the
    world are refused then, unless --effects allows them.

    Exit codes: 0 the same, 1 it diverged, 2 it could not be run.
    """
    if effects and from_step is None:
        raise CannotRunError("--effects", "nothing is called in a replay", "Add --from STEP.")
    where = Where(db, tuple(targets or ()), model, secrets)
    with only_results(as_json=as_json):
        found = _again(where, turn, target, from_step, effects=effects)
    if as_json:
        print_json(found)
    else:
        _print(out(), found, where, live=from_step is not None)
    raise typer.Exit(1 if found.divergence is not None else 0)


def _again(
    where: Where, turn: str, target: str | None, from_step: str | None, *, effects: bool
) -> Replay:
    turn_id = read_trace(where.db, turn).turn_id
    importable_from_here()

    async def main() -> Replay:
        return await run_again(
            where.db,
            turn_id,
            from_step=from_step,
            effects=effects,
            target=None if target is None else load_target(target),
            targets=load_targets(where.targets),
            secrets=read_secrets(where.secrets),
            model=load_model(where.model),
        )

    try:
        return run_until_stopped(main, lambda: None)
    except TargetError as error:
        raise target_hint(error) from error


def _print(console: Console, found: Replay, where: Where, *, live: bool) -> None:
    prompts = _counted(found.prompts, "prompt")
    met = f"{_counted(found.steps, 'step')} met again in the journal, {prompts} compared"
    if found.divergence is not None:
        print_divergence(console, found.divergence)
        say(console, f"{met}.", 2, "dim")
        return
    if not live:
        end = _ENDS[found.ends]
        said = f" {found.turn_id} is the same, byte for byte, {end}: nothing was called."
        say(console, Text.assemble(sign("ok"), said))
        say(console, f"{met}.", 2, "dim")
        return
    if found.outcome is not None:
        print_outcome(console, found.outcome, where)
    say(console, f"On a copy that is gone now: {met}, and the rest went on live.", 0, "dim")
    if found.refused:
        names = ", ".join(dict.fromkeys(found.refused))
        said = f"Not called, since they change the world: {safe(names)}. Allow that: --effects"
        say(console, said, 0, "yellow")


def print_divergence(console: Console, found: Divergence) -> None:
    """Say what is not as it was recorded."""
    where = f"step {found.step}" if found.step else "the end of the turn"
    which = "" if found.message is None else f", in message {found.message}"
    title = Text.assemble(sign("failed"), f" The {found.what} differs at {safe(where)}{which}.")
    say(console, title)
    was, now = _marked(found.recorded, found.now)
    room = max(console.width - 14, 40)
    for label, text in (("recorded", was), ("now", now)):
        say(console, Text.assemble((f"  {label:<10}", "dim"), brief(text, room)))


def _marked(was: Any, now: Any) -> tuple[Any, Any]:
    """Return two texts from a little before where they begin to differ."""
    if not (isinstance(was, str) and isinstance(now, str)):
        return as_text(was), as_text(now)
    pairs = enumerate(zip(was, now, strict=False))
    same = next((at for at, (one, other) in pairs if one != other), min(len(was), len(now)))
    begin = max(0, same - _CONTEXT_CHARS)
    lead = "…" if begin else ""
    return lead + was[begin:], lead + now[begin:]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
