"""Two turns beside each other: what they did differently, the first difference before all."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from undercroft.cli.console import colour, columns, out, put, say, sign, word
from undercroft.cli.options import DB_DEFAULT, Db, Json
from undercroft.cli.plain import print_json
from undercroft.cli.safe import brief, clock, cut, safe, took
from undercroft.cli.spending import spent_words, total_spent
from undercroft.layers.observability.diff import Difference, Pair
from undercroft.model.trace import StepTrace, Trace
from undercroft.queries import Compared, compare_turns

_ROWS_MAX = 40
_NAME = 18
_WIDE, _NAME_NARROW = 76, 14
_TOOK = 9


def diff(
    *,
    first: Annotated[
        str,
        typer.Argument(
            metavar="TURN", help="A turn's id, the beginning of it, or `last`.", show_default=False
        ),
    ],
    second: Annotated[
        str, typer.Argument(metavar="TURN", help="The turn to compare it with.", show_default=False)
    ],
    everything: Annotated[
        bool, typer.Option("--all", metavar="", help="Every step, also those that are the same.")
    ] = False,
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """Say what two turns did differently: steps, prompts, results, what the user was told.

    Exit code 0 where they did the same, 1 where they differ. Durations and cost are shown, and
    make no difference.
    """
    found = compare_turns(db, first, second)
    if as_json:
        print_json(_plain(found))
    else:
        _print(out(), found, everything=everything)
    raise typer.Exit(0 if found.same else 1)


# ------------------------------------------------------------------ for people


def _print(console: Console, found: Compared, *, everything: bool) -> None:
    for letter, trace in (("A", found.a), ("B", found.b)):
        _print_head(console, letter, trace)
    console.print()
    if found.same:
        console.print(Text.assemble(sign("ok"), " They did the same."))
    else:
        _print_first(console, found)
    if found.diff.turn:
        console.print()
        for difference in found.diff.turn:
            _print_difference(console, difference)
    console.print()
    apart = "" if found.prompt is None else ", prompts apart"
    _print_steps(console, found.diff.pairs, apart, everything=everything)


def _print_head(console: Console, letter: str, trace: Trace) -> None:
    status = str(trace.status)
    line = Text.assemble((letter, "bold"), "  ", sign(status), " ", safe(trace.turn_id), "  ")
    line.append(word(status), style=colour(status))
    line.append(f"  {clock(trace.began_at, date=True)}", style="dim")
    line.truncate(console.width, overflow="ellipsis")
    put(console, [line])
    facts = [cut(safe(trace.target), 40)]
    if trace.status.final and trace.ended_at is not None:
        facts.append(f"took {took(trace.ended_at - trace.began_at)}")
    spent = total_spent(trace.steps)
    if spent is not None:
        facts.append(spent_words(spent))
    say(console, ", ".join(facts), 5, "dim")


def _print_first(console: Console, found: Compared) -> None:
    """Print the first difference between the steps, or in what a model was sent."""
    prompt, pairs = found.prompt, found.diff.pairs
    if prompt is not None and (found.diff.first is None or prompt.place <= found.diff.first):
        pair = pairs[prompt.place]
        say(console, _bold(f"First difference: the prompt of {_both(pair)}, {prompt.where}"))
        _print_two(console, prompt.a, prompt.b)
    elif found.diff.first is not None:
        pair = pairs[found.diff.first]
        if pair.a is None or pair.b is None:
            only = "A" if pair.b is None else "B"
            say(console, _bold(f"First difference: only {only} has {_both(pair)}"))
            step = pair.a or pair.b
            if step is not None and step.arguments is not None and step.kind != "model":
                say(console, brief(step.arguments, console.width * 2), 5)
        else:
            named = ", ".join(one.what for one in pair.differs)
            say(console, _bold(f"First difference: {named} of {_both(pair)}"))
            for one in pair.differs:
                _print_two(console, one.a, one.b)
    else:
        say(console, _bold("Their steps are the same."))


def _bold(text: str) -> Text:
    return Text(safe(text), style="bold")


def _both(pair: Pair) -> str:
    ids = dict.fromkeys(step.step_id for step in (pair.a, pair.b) if step is not None)
    return " and ".join(ids)


def _print_two(console: Console, a: Any, b: Any) -> None:
    a, b = _from_where_they_differ(a, b)
    for letter, value in (("A", a), ("B", b)):
        shown = "nothing" if value is None else brief(value, 2 * (console.width - 6))
        say(console, Text.assemble((f"{letter}  ", "dim"), shown), 2)


_LEAD = 24


def _from_where_they_differ(a: Any, b: Any) -> tuple[Any, Any]:
    """Return two long texts from a little before the place where they part."""
    if not (isinstance(a, str) and isinstance(b, str)):
        return a, b
    same = next(
        (at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    if same <= 2 * _LEAD:
        return a, b
    return f"… {a[same - _LEAD :]}", f"… {b[same - _LEAD :]}"


def _print_difference(console: Console, one: Difference) -> None:
    pieces = [(one.what, one.a, one.b)]
    if isinstance(one.a, dict) and isinstance(one.b, dict):
        names = [name for name in {**one.a, **one.b} if one.a.get(name) != one.b.get(name)]
        pieces = [(f"{one.what} {name}", one.a.get(name), one.b.get(name)) for name in names]
    for what, a, b in pieces[:_ROWS_MAX]:
        say(console, safe(what), 2, "dim")
        _print_two(console, a, b)


def _print_steps(
    console: Console, pairs: tuple[Pair, ...], apart: str, *, everything: bool
) -> None:
    """Print steps beside each other; those that are the same only as a number."""
    same = sum(pair.is_same for pair in pairs)
    only = [sum(pair.b is None for pair in pairs), sum(pair.a is None for pair in pairs)]
    differ = len(pairs) - same - sum(only)
    say(
        console,
        f"Of {len(pairs):,} steps {same:,} are the same, {differ:,} differ, {only[0]:,} only A "
        f"has and {only[1]:,} only B{apart}.",
        0,
        "bold",
    )
    rows: list[Text] = []
    run = 0
    for place, pair in enumerate((*pairs, None)):
        if pair is not None and pair.is_same and not everything:
            run += 1
            continue
        if run:
            rows.append(Text(f"    … {run:,} the same", style="dim"))
            run = 0
        if pair is None:
            break
        if len(rows) >= _ROWS_MAX and not everything:
            left = sum(not one.is_same for one in pairs[place:])
            rows.append(Text(f"    … {left:,} more that differ: --all", style="dim"))
            break
        rows.append(_row(pair, console.width))
    put(console, rows)


def _row(pair: Pair, width: int) -> Text:
    a, b = pair.a, pair.b
    if a is None or b is None:
        mark, style = ("+", "green") if a is None else ("-", "red")
        what = f"only {'A' if b is None else 'B'}"
    elif pair.differs:
        mark, style = "~", "yellow"
        what = "; ".join(map(_in_short, pair.differs))
    else:
        mark, style, what = "=", "dim", ""
    name = _NAME if width >= _WIDE else _NAME_NARROW
    room = width - 4 - 2 * name - 2 * _TOOK
    return columns(
        (Text(f"  {mark}", style=style), 4),
        (_name(a, name), name),
        (_name(b, name), name),
        (_took(a), _TOOK),
        (_took(b), _TOOK),
        (Text(cut(safe(what), room), style=style), room),
    )


def _name(step: StepTrace | None, width: int) -> Text:
    return Text("" if step is None else cut(safe(step.step_id), width - 1))


def _took(step: StepTrace | None) -> Text:
    return Text("" if step is None else took(step.took_s), style="dim")


def _in_short(one: Difference) -> str:
    if one.what == "status":
        return f"{word(one.a)} → {word(one.b)}"
    return one.what


# ------------------------------------------------------------------ for programs


def _plain(found: Compared) -> dict[str, Any]:
    prompt, diff = found.prompt, found.diff
    return {
        "same": found.same,
        "a": _turn(found.a),
        "b": _turn(found.b),
        "turn": diff.turn,
        "first": None if diff.first is None else _pair(diff.pairs[diff.first]),
        "prompt": prompt
        and {
            **_pair(diff.pairs[prompt.place]),
            "where": prompt.where,
            "message": prompt.message,
            "left": prompt.a,
            "right": prompt.b,
        },
        "steps": [_pair(pair) for pair in diff.pairs],
    }


def _turn(trace: Trace) -> dict[str, Any]:
    took_s = None
    if trace.status.final and trace.ended_at is not None:
        took_s = trace.ended_at - trace.began_at
    return {
        "turn_id": trace.turn_id,
        "target": trace.target,
        "status": trace.status,
        "took_s": took_s,
        "spent": total_spent(trace.steps),
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "a": pair.a and pair.a.step_id,
        "b": pair.b and pair.b.step_id,
        "differs": pair.differs,
        "took_s": [step and step.took_s for step in (pair.a, pair.b)],
    }
