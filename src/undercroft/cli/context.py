"""The window of a session over time, and what its last prompt shows of all that was said.

Keeps: nothing is run and no model is asked; a page of 80 columns, however long the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from undercroft.cli.chart import Chart, legend
from undercroft.cli.console import columns, out, print_command, put, say
from undercroft.cli.options import DB_DEFAULT, Db, Json
from undercroft.cli.plain import print_json
from undercroft.cli.problem import CannotRunError
from undercroft.cli.safe import cut, safe
from undercroft.cli.where import Where
from undercroft.errors import TurnNotFoundError
from undercroft.layers.context.items import Fate
from undercroft.layers.context.story_rows import (
    AlarmRow,
    CompactionRow,
    ItemRow,
    PolicyRow,
    PromptRow,
    ReasonRow,
    ReportRow,
    Story,
)
from undercroft.queries import read_context

T = TypeVar("T")

_FATE, _COUNT, _TOKENS = 14, 7, 10
_FIGURES = _FATE + _COUNT + 2 * _TOKENS + 2
_WHY_CHARS_MAX = 160
_NAME, _NUMBER = 9, 8
_ITEM = _NAME + 2 * _NUMBER + _FATE
_KIND_MIN, _KIND_MAX, _REASON = 9, 28, 24
_STYLES = {
    Fate.KEPT.value: "green",
    Fate.ELIDED.value: "yellow",
    Fate.SUMMARISED.value: "cyan",
    Fate.DROPPED.value: "red",
}


def context(
    *,
    session: Annotated[
        str,
        typer.Argument(
            metavar="SESSION",
            help="A conversation, as `session=` named it; or a turn of it: its id, the beginning "
            "of that, or `last`.",
            show_default=False,
        ),
    ],
    everything: Annotated[
        bool, typer.Option("--all", metavar="", help="A row for every prompt, however many.")
    ] = False,
    items: Annotated[
        bool,
        typer.Option("--items", metavar="", help="What became of each item, one by one."),
    ] = False,
    db: Db = DB_DEFAULT,
    as_json: Json = False,
) -> None:
    """Draw what a session's model was shown, by section and over time, and what was left out.

    Marked are the window and its water marks, every compaction, results cut
    when they arrived, changes of the policy, alarms, and what of each prompt
    was sent before, beside what the provider says it had cached.

    With --json: session, turns, other_turns, quality, report, and rows as they
    happened; `what` says what a row is: policy, prompt, compaction, alarm or
    overflow. A prompt has turn_id, step_id, tokens, sections, cached_expected,
    cached_reported, quality; report has reasons and items, each with its fate.

    Quality is that of the context, and says nothing of whether a task succeeded.
    """
    mend = "List them: undercroft turns."
    if not session.strip():
        raise CannotRunError("SESSION", "it is empty", mend)
    try:
        story = read_context(db, session)
    except TurnNotFoundError as error:
        raise CannotRunError(session, error.problem, error.mend) from error
    except UnicodeEncodeError as error:
        raise CannotRunError(session, "no journal can hold such a name", mend) from error
    if as_json:
        print_json(story)
        return
    console = out()
    print_story(console, story, everything=everything, items=items)
    if not items and story.report is not None and story.report.items:
        print_command(console, Where(db).again("context", session, "--items"))


def print_story(console: Console, story: Story, *, everything: bool, items: bool) -> None:
    """Print the page of a session."""
    _print_head(console, story)
    if not story.rows:
        return
    chart = Chart(story, console, everything=everything)
    put(console, [Text(), *legend(console.width), Text(), *chart.lines()])
    _print_totals(console, story)
    if story.report is not None:
        _print_report(console, story.report, items=items)


# ---------------------------------------------------------------------- the head


def _print_head(console: Console, story: Story) -> None:
    name = "a turn without a session" if story.session is None else safe(story.session)
    prompts = _some(story, PromptRow)
    counts = [f"{_counted(len(prompts), 'prompt')} in {_counted(len(story.turns), 'turn')}"]
    for kind, what in ((CompactionRow, "compaction"), (AlarmRow, "alarm")):
        if found := len(_some(story, kind)):
            counts.append(_counted(found, what))
    if story.other_turns and story.turns:
        counts[0] += f" of {len(story.turns) + story.other_turns:,}"
    if not story.rows:
        turns = _counted(story.other_turns, "turn")
        none = f"It has {turns}, and none of them assembled a prompt under a context policy."
        put(console, [Text(cut(name, console.width), style="bold")])
        say(console, none)
        say(console, "Give one: uc.Runtime(…, context=uc.ContextPolicy(limit_tokens=…)).", 0, "dim")
        return
    said = ", ".join(counts)
    head = Text(cut(name, max(console.width - len(said) - 2, 20)), style="bold")
    say(console, head.append(f"  {said}", style="not bold"))
    policies = _some(story, PolicyRow)
    if policies:
        say(console, _policy(policies[-1]), 0, "dim")


def _policy(row: PolicyRow) -> str:
    sizes = (row.limit_tokens, row.reserved_tokens, row.high_tokens, row.low_tokens)
    if None in sizes:
        return f"Policy {safe(row.hash)}; this journal does not say what it holds."
    limit, reserved, high, low = (f"{size:,}" for size in sizes)
    return (
        f"A window of {limit} tokens, {reserved} of them kept free for the answer; compacted "
        f"above {high}, down to {low}. Policy {safe(row.hash)}."
    )


# ---------------------------------------------------------------------- totals


def _print_totals(console: Console, story: Story) -> None:
    prompts = [row for row in _some(story, PromptRow) if row.sent]
    lines = [("tokens", _tokens(prompts)), ("cache", _cache(prompts))] if prompts else []
    if story.quality is not None:
        lines.append(("quality", _quality(story)))
    compactions = _some(story, CompactionRow)
    failed = sum(bool(row.failed) for row in compactions)
    if failed:
        asked = sum(bool(row.failed) or row.summary is not None for row in compactions)
        lines.append(("summaries", f"{failed:,} of {asked:,} could not be used"))
    if lines:
        console.print()
    for label, text in lines:
        body = list(Text(text).wrap(console, max(console.width - _FATE, 20)))
        for place, line in enumerate(body):
            line.rstrip()
            head = label if not place else ""
            put(console, [Text.assemble((f"  {head:<{_FATE - 2}}", "dim"), line)])


def _tokens(prompts: Sequence[PromptRow]) -> str:
    text = f"{sum(row.tokens for row in prompts):,} sent, as counted"
    told = [row for row in prompts if row.tokens_reported]
    reported = sum(row.tokens_reported or 0 for row in told)
    if not told:
        return f"{text}; the provider reported none"
    if len(told) < len(prompts):
        counted = sum(row.tokens for row in told)
        return f"{text}; of {counted:,} of them the provider says {reported:,}"
    return f"{text}; the provider says {reported:,}"


def _cache(prompts: Sequence[PromptRow]) -> str:
    sent = sum(row.tokens for row in prompts)
    text = f"{_percent(sum(row.cached_expected for row in prompts), sent)} of what was sent had "
    text += "been sent before"
    told = [row for row in prompts if row.cached_reported is not None and row.tokens_reported]
    if not any(row.cached_reported for row in told):
        return f"{text}; the provider reported no hits"
    hits = sum(row.cached_reported or 0 for row in told)
    return f"{text}; hits as reported: {_percent(hits, sum(r.tokens_reported or 0 for r in told))}"


def _quality(story: Story) -> str:
    row = story.quality
    if row is None or row.session is None:
        return f"unknown: too little was seen, {_counted(row.seen if row else 0, 'observation')}"
    parts = ", ".join(
        f"{name.replace('_', '-')} {'-' if part is None else f'{100 * part:.0f}'}"
        for name, part in row.parts.items()
    )
    return f"{row.session} of 100, from {_counted(row.seen, 'observation')}: {parts}"


# ---------------------------------------------------------------------- the report


def _print_report(console: Console, report: ReportRow, *, items: bool) -> None:
    where = f"{safe(report.step_id)} of turn {report.turn:,}"
    console.print()
    say(console, Text.assemble("What the last prompt shows, ", (where, "bold")))
    if not report.items:
        say(console, "Nothing but its system text, tools and pins.", 2)
        return
    lines, last = [_cells("", ("ITEMS", "TOKENS", "SHOWN"), Text("WHY"), "")], ""
    lines[0].stylize("dim")
    for reason in report.reasons:
        fate = "" if reason.fate == last else safe(reason.fate)
        last = reason.fate
        figures = [f"{n:,}" for n in (reason.items, reason.tokens, reason.shown_tokens)]
        why = Text(cut(_why(reason), _WHY_CHARS_MAX)).wrap(console, console.width - _FIGURES)
        for part in why or [Text()]:
            part.rstrip()
            lines.append(_cells(fate, figures, part, _STYLES.get(reason.fate, "")))
            fate, figures = "", ["", "", ""]
    put(console, lines)
    if items:
        put(console, [Text(), *_item_lines(console, report.items)])


def _cells(fate: str, figures: Sequence[str], why: Text, style: str) -> Text:
    widths = (_COUNT, _TOKENS, _TOKENS)
    return columns(
        (Text(f"  {cut(fate, _FATE - 3)}", style=style), _FATE),
        *((Text(text.rjust(n)), n) for text, n in zip(figures, widths, strict=True)),
        (Text.assemble("  ", why), 1_000),
    )


def _why(reason: ReasonRow) -> str:
    text = safe(reason.reason)
    if not reason.recallable:
        return text
    all_of_them = reason.recallable == reason.items
    can = "can be recalled" if all_of_them else f"{reason.recallable:,} can be recalled"
    return f"{text}; {can}" if text else can


def _item_lines(console: Console, items: Iterable[ItemRow]) -> list[Text]:
    kind_room = min(max(console.width - _ITEM - _REASON, _KIND_MIN), _KIND_MAX)
    widths = (_NAME, kind_room, _NUMBER, _NUMBER, _FATE)
    head = _item_cells(("ITEM", "KIND", "TOKENS", "SHOWN", "FATE"), widths, Text("WHY"), "")
    head.stylize("dim")
    lines = [head]
    for item in items:
        kind = f"{item.kind} {item.tool}".strip() or "-"
        texts: tuple[str, ...] = (
            item.name,
            kind,
            f"{item.tokens:,}",
            f"{item.shown_tokens:,}",
            item.fate,
        )
        recall = f"recall {item.handle}" if item.handle else ""
        why = safe("; ".join(text for text in (item.reason, recall) if text))
        parts = Text(cut(why, _WHY_CHARS_MAX)).wrap(console, console.width - sum(widths))
        for part in parts or [Text()]:
            part.rstrip()
            lines.append(_item_cells(texts, widths, part, _STYLES.get(item.fate, "")))
            texts = ("",) * len(widths)
    return lines


def _item_cells(texts: Sequence[str], widths: Sequence[int], why: Text, style: str) -> Text:
    name, kind, tokens, shown, fate = map(safe, texts)
    cells = (
        Text(f"  {cut(name, widths[0] - 3)}"),
        Text(cut(kind, widths[1] - 1)),
        Text(tokens.rjust(widths[2])),
        Text(shown.rjust(widths[3])),
        Text(f"  {cut(fate, widths[4] - 3)}", style=style),
    )
    return columns(*zip(cells, widths, strict=True), (why, 1_000))


# ---------------------------------------------------------------------- words


def _some(story: Story, kind: type[T]) -> list[T]:
    return [row for row in story.rows if isinstance(row, kind)]


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"
