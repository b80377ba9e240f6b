"""Sessions: how each fares, and of one what changed since its last good turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from undercroft.cli.console import colour, columns, err, out, print_command, put, say, sign, word
from undercroft.cli.options import DB_DEFAULT, Db, Json
from undercroft.cli.plain import print_json
from undercroft.cli.safe import clock, cut, safe, took
from undercroft.cli.spending import money
from undercroft.cli.where import Where
from undercroft.layers.observability.sessions import Fact, SessionRow, SessionStory, TurnFacts
from undercroft.queries import list_sessions, read_session

_TURNS, _OUTCOMES, _QUALITY, _SPENT, _LAST = 6, 24, 10, 14, 12
_WIDE, _OUTCOMES_NARROW = 76, 18
_SHOWN_MAX = 15
_THOUSAND, _MILLION = 1_000, 1_000_000


def sessions(
    *,
    session: Annotated[
        str | None,
        typer.Argument(
            metavar="[SESSION]",
            help="One conversation, as `session=` named it: its turns, and what changed since "
            "the last good one.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    everything: Annotated[
        bool, typer.Option("--all", metavar="", help="Of one session, every turn.")
    ] = False,
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """List sessions: turns, outcomes, quality, spend, breaker trips and refusals.

    Of one session also what changed since the last turn that ended well:
    code, tools, model, policy, services that tripped, new errors and refusals.
    """
    if session is not None:
        story = read_session(db, session)
        if as_json:
            print_json(story)
        else:
            _print_story(out(), story, Where(db), everything=everything)
        return
    rows = list_sessions(db, limit=limit + 1)
    shown = rows[:limit]
    if as_json:
        print_json(shown)
        return
    console = out()
    if not shown:
        console.print(Text("No turn belongs to a session."))
        return
    _print_list(console, shown)
    if len(rows) > limit:
        err().print(Text(f"… and older ones: --limit {limit * 5}", style="dim"))


def _print_list(console: Console, rows: list[SessionRow]) -> None:
    wide = console.width >= _WIDE
    outcomes, spent = (_OUTCOMES, _SPENT) if wide else (_OUTCOMES_NARROW, 0)
    room = console.width - _TURNS - outcomes - _QUALITY - spent - _LAST
    heads = ("session", "turns", "outcomes", "quality", "spent", "last")
    widths = (room, _TURNS, outcomes, _QUALITY, spent, _LAST)
    lines = [_columns([Text(head, style="dim") for head in heads], widths)]
    for row in rows:
        cells = (
            Text(safe(row.session)),
            Text(f"{row.turns:,}"),
            _outcomes(row.outcomes),
            Text(_trend(row.quality)),
            Text(_spent(row), style="dim"),
            Text(clock(row.last_at, date=True)[5:16], style="dim"),
        )
        lines.append(_columns(cells, widths))
        trouble = _trouble(row)
        if trouble:
            lines.append(Text(cut(f"  {trouble}", console.width), style="yellow"))
    put(console, lines)


def _columns(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    """Return cells with room between them, without those that have no room at all."""
    shown = [(cell, width) for cell, width in zip(cells, widths, strict=True) if width]
    for cell, width in shown:
        cell.truncate(width - 1, overflow="ellipsis")
    return columns(*shown)


def _outcomes(counts: Mapping[str, int]) -> Text:
    text = Text()
    for status, count in counts.items():
        text.append(", " if text else "")
        text.append(f"{count:,} {word(status)}", style=colour(status))
    return text


def _trend(quality: tuple[int, ...]) -> str:
    if not quality:
        return ""
    return f"{quality[0]} → {quality[-1]}" if quality[0] != quality[-1] else f"{quality[0]}"


def _spent(row: SessionRow | TurnFacts) -> str:
    tokens = row.input_tokens + row.output_tokens
    words = [f"{_short(tokens)} tok"] if tokens else []
    if row.usd is not None:
        words.append(money(row.usd))
    return " ".join(words)


def _short(count: int) -> str:
    if count >= _MILLION:
        return f"{count / _MILLION:.1f}M"
    return f"{count / _THOUSAND:.0f}k" if count >= 10 * _THOUSAND else f"{count:,}"


def _trouble(row: SessionRow | TurnFacts) -> str:
    """Return what went wrong besides the outcome, in a line."""
    parts = [("tripped", row.trips), ("refused", row.refusals), ("failed", row.errors)]
    said = [f"{what} {_counts(counts)}" for what, counts in parts if counts]
    return "; ".join(said)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{safe(name)} {count:,}x" for name, count in counts.items())


# ------------------------------------------------------------------ one of them


def _print_story(console: Console, story: SessionStory, where: Where, *, everything: bool) -> None:
    row = story.row
    put(console, [Text(cut(f"session {safe(row.session)}", console.width), style="bold")])
    began, last = (clock(at, date=True) for at in (row.began_at, row.last_at))
    say(console, f"{row.turns:,} turns, {began} to {last}", 2, "dim")
    put(console, [Text.assemble("  ", _outcomes(row.outcomes))])
    if row.quality:
        lowest = f", lowest {min(row.quality)}" if min(row.quality) < row.quality[-1] else ""
        say(console, f"context quality {_trend(row.quality)}{lowest}", 2)
    if _spent(row):
        say(console, f"spent {_spent(row)} in {row.attempts:,} attempts", 2)
    if _trouble(row):
        say(console, _trouble(row), 2, "yellow")
    console.print()
    _print_changes(console, story)
    console.print()
    turns = story.turns if everything else story.turns[-_SHOWN_MAX:]
    if len(turns) < len(story.turns):
        left = len(story.turns) - len(turns)
        put(console, [Text(f"  … {left:,} earlier turns: --all", style="dim")])
    put(console, [_turn_line(turn, console.width) for turn in turns])
    if story.last_good and story.last_good != row.last_turn:
        console.print()
        say(console, "See what the last turn did differently from the last good one:", 0, "dim")
        print_command(console, where.again("diff", story.last_good, row.last_turn))


def _print_changes(console: Console, story: SessionStory) -> None:
    if not story.last_good:
        say(console, "No turn of it ended well. Since its first turn:", 0, "bold")
    elif not story.changed:
        say(console, f"The last turn that is over ended well: {safe(story.last_good)}", 0, "bold")
    else:
        say(console, f"Since {safe(story.last_good)}, which ended well:", 0, "bold")
    for fact in story.changed:
        _print_fact(console, fact)


def _print_fact(console: Console, fact: Fact) -> None:
    count = len(fact.turns)
    more = f" and {count - 1:,} more" if count > 1 else ""
    say(console, Text.assemble((f"{fact.what}  ", "dim"), safe(fact.said)), 2)
    say(console, f"{safe(fact.turns[0])}{more}", 6, "dim")


def _turn_line(turn: TurnFacts, width: int) -> Text:
    lasted = "" if turn.ended_at is None else took(turn.ended_at - turn.began_at)
    date = 13 if width >= _WIDE else 0
    room = width - 30 - 12 - date - 9
    quality = "" if turn.quality is None else f"quality {turn.quality}"
    cells = (
        Text(f"  {safe(turn.turn_id)}"),
        Text.assemble(sign(turn.status), " ", (word(turn.status), colour(turn.status))),
        Text(clock(turn.began_at, date=True)[5:16], style="dim"),
        Text(lasted, style="dim"),
        Text(_trouble(turn) or quality, style="dim"),
    )
    return _columns(cells, (30, 12, date, 9, room))
