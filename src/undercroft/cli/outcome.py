"""How a turn stands after a run: its status, what it says, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from undercroft.cli.console import colour, print_command, say, sign, word
from undercroft.cli.safe import cut, named, pretty, safe
from undercroft.cli.where import Where
from undercroft.model.outcome import Outcome, TurnStatus, Waiting

VALUE_CHARS_MAX = 4_000
VALUE_LINES_MAX = 40
ERROR_CHARS_MAX = 600
ERROR_LINES_MAX = 8
LISTED_MAX = 8

_FAILED = (TurnStatus.FAILED, TurnStatus.IN_DOUBT)


def exit_code(outcome: Outcome) -> int:
    """Return 0 where nothing is wrong, 1 where the turn failed or is in doubt."""
    return 1 if outcome.status in _FAILED else 0


def print_outcome(console: Console, outcome: Outcome, where: Where) -> None:
    """Print how a turn stands and what to do next."""
    status = outcome.status
    head = Text.assemble(sign(status), " ", (word(status), f"bold {colour(status)}"))
    console.print(head.append(f"  {safe(outcome.turn_id)}", style="dim"))
    if outcome.missing:
        say(console, f"without {bounded(safe(', '.join(outcome.missing)))}", 2, "yellow")
    if status in (TurnStatus.DONE, TurnStatus.DEGRADED):
        print_text(console, outcome.value)
    if outcome.error is not None:
        said = safe(str(outcome.error), lines=True)
        step = f" (in {safe(outcome.error.step)})" if outcome.error.step else ""
        say(console, bounded(said, ERROR_CHARS_MAX, ERROR_LINES_MAX) + step, 2)
    if status is TurnStatus.FAILED:
        print_command(console, where.again("show", outcome.turn_id))
    print_waiting(console, outcome.turn_id, outcome.waiting, where)
    print_doubts(console, outcome.turn_id, outcome.in_doubt, where)


def print_text(console: Console, value: Any) -> None:
    """Print what the user is told."""
    if value is not None:
        say(console, bounded(pretty(value)), 2)


def bounded(
    text: str,
    chars_max: int = VALUE_CHARS_MAX,
    lines_max: int = VALUE_LINES_MAX,
    *,
    more: str = "--json",
) -> str:
    """Return at most so much text as a person reads, and say how much there is, and what has it."""
    lines = text[:chars_max].split("\n")
    if len(text) <= chars_max and len(lines) <= lines_max:
        return text
    return "\n".join(lines[:lines_max]) + f"\n… ({len(text):,} characters; {more} has all)"


def print_waiting(console: Console, turn_id: str, waiting: Sequence[Waiting], where: Where) -> None:
    """Print what waits for a person, and the commands that decide it."""
    for one in waiting[:LISTED_MAX]:
        _print_asked(console, "waiting", one, "waits for a person to agree.")
        _print_void(console, one)
        # So that a yes typed later is a yes to this, and not to what it has become.
        seen = ("--fingerprint", one.fingerprint[:8]) if one.fingerprint else ()
        for verb, more in (("approve", seen), ("reject", ())):
            line = where.resuming(verb, turn_id, one.step_id, *more, "--by", "NAME")
            print_command(console, line, "    ")
    _left_out(console, len(waiting) - LISTED_MAX, turn_id, where)


_VOID = {
    "changed": "An earlier yes counts no more, because a record has changed since:",
    "expired": "An earlier yes counts no more, because it came too late or was used too late.",
    "copied": "An earlier yes counts no more, because it was given in the journal that this one "
    "was copied from.",
}


def _print_void(console: Console, one: Waiting) -> None:
    """Print why somebody is asked again, and what is not as it was."""
    if not one.void:
        return
    say(console, _VOID.get(one.void, one.void), 4, "yellow")
    for each in one.changed[:LISTED_MAX]:
        was, now = (bounded(pretty(value), 200, 3) for value in (each.was, each.now))
        say(console, f"{safe(each.key)}: {was} → {now}", 6)


def print_doubts(console: Console, turn_id: str, doubts: Sequence[Waiting], where: Where) -> None:
    """Print writes that may or may not have happened, and the commands that settle them."""
    for one in doubts[:LISTED_MAX]:
        _print_asked(console, "in_doubt", one, "may have happened or not. Look, then say which:")
        for said in ("--applied", "--not-applied"):
            line = where.resuming("settle", turn_id, one.step_id, said, "--by", "NAME")
            print_command(console, line, "    ")
    _left_out(console, len(doubts) - LISTED_MAX, turn_id, where)


def _print_asked(console: Console, status: str, one: Waiting, what: str) -> None:
    name = (cut(safe(one.step_id), console.width // 2), "bold")
    console.print(Text.assemble("  ", sign(status), " ", name, f" {what}"))
    if isinstance(one.arguments, dict) and one.arguments:
        console.print(Text("    " + named(one.arguments, console.width - 4), style="dim"))


def _left_out(console: Console, count: int, turn_id: str, where: Where) -> None:
    if count > 0:
        console.print(Text(f"  … and {count:,} more:"))
        print_command(console, where.again("show", turn_id, "--all"), "    ")
