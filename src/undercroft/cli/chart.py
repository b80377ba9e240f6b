"""The window of a session as bars: one a prompt, stacked by section, on one scale.

Keeps: a section that is there takes a column at least while there are enough, and a bar is as
long as its prompt is large; what stands between the rows is never left out, only put together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from rich.console import Console
from rich.text import Text

from undercroft.cli.console import columns
from undercroft.cli.safe import as_text, clock, cut, safe
from undercroft.layers.context.policy import Section
from undercroft.layers.context.story_rows import (
    AlarmRow,
    CompactionRow,
    ItemRow,
    OverflowRow,
    PolicyRow,
    PromptRow,
    Row,
    Story,
)

T = TypeVar("T")

# With more prompts than this not each has a row, so that a session is a page.
ROWS_MAX = 24
LISTED_MAX = 3
_TOKENS, _CACHED, _QUALITY = 10, 8, 8
_LABEL, _LABEL_FOLDED = 11, 14
_MARK = 4
_TEXT_LINES_MAX = 3
_SETTING_COLUMNS = 30
# Fill and colour of each section; what stays as it is stands out the most.
LOOKS: dict[str, tuple[str, str]] = {
    Section.SYSTEM: ("█", "blue"),
    Section.TOOLS: ("▓", "blue"),
    Section.PINS: ("▚", "magenta"),
    Section.LEDGER: ("▒", "yellow"),
    Section.SUMMARIES: ("░", "cyan"),
    Section.RECENT: ("━", "green"),
    Section.CURRENT: ("─", "bright_green"),
}
_LOW, _HIGH, _LIMIT, _FREE = "┊", "╎", "│", "·"
_FATES = {"elided": "elided", "summarised": "summarised", "dropped": "dropped"}


Mark: TypeAlias = Row | ItemRow


@dataclass(slots=True)
class _Stretch:
    """Prompts that share a row: one of them is drawn, and all that happened before and after."""

    prompt: PromptRow
    before: list[Mark]
    after: list[Mark] = field(default_factory=list)
    count: int = 1

    def take(self, marks: list[Mark], prompt: PromptRow) -> None:
        """Let one more prompt share the row; the largest is drawn."""
        self.count += 1
        if prompt.tokens >= self.prompt.tokens:
            self.before += self.after + marks
            self.after, self.prompt = [], prompt
        else:
            self.after += marks


def legend(width: int) -> list[Text]:
    """Return what fills, marks and figures mean, in lines of at most `width` columns."""
    marks = ((_LOW, "low water"), (_HIGH, "high water"), (_FREE, "kept free for the answer"),
             (_LIMIT, "limit"))  # fmt: skip
    return [
        *_flowed([(fill, section, style) for section, (fill, style) in LOOKS.items()], width),
        *_flowed([(mark, word, "dim") for mark, word in marks], width),
        Text("  CACHED: sent before / cached, as the provider says", style="dim"),
    ]


def _flowed(parts: Iterable[tuple[str, str, str]], width: int) -> list[Text]:
    lines = [Text(no_wrap=True)]
    for mark, word, style in parts:
        if lines[-1].cell_len + 4 + len(word) > width:
            lines.append(Text(no_wrap=True))
        lines[-1].append(f"  {mark} ", style=style).append(word, style="dim")
    return lines


class Chart:
    """The rows of a story, drawn."""

    def __init__(self, story: Story, console: Console, *, everything: bool = False) -> None:
        self.story, self.console, self.everything = story, console, everything
        self.prompts = [row for row in story.rows if isinstance(row, PromptRow)]
        self.folded = not everything and len(self.prompts) > ROWS_MAX
        self.label = _LABEL_FOLDED if self.folded else _LABEL
        self.bar_columns = max(8, console.width - self.label - _TOKENS - _CACHED - _QUALITY)
        limits = [row.limit_tokens or 0 for row in story.rows if isinstance(row, PolicyRow)]
        self.whole = max([1, *limits, *(row.tokens for row in self.prompts)])
        # Whether the provider says anything of its cache.
        self.cache_told = any(row.cached_reported for row in self.prompts)
        self.branched = any(row.branch for row in self.prompts)

    def lines(self) -> list[Text]:
        """Return all of it."""
        lines: list[Text] = []
        stretches, rest = self._stretches()
        shown: tuple[Any, ...] | None = None
        turn = branch = ""
        for stretch in stretches:
            prompt = stretch.prompt
            if not self.folded and prompt.turn_id != turn:
                turn, branch = prompt.turn_id, ""
                lines.append(self._turn(turn))
            lines += self._marks(stretch.before)
            scale = (prompt.limit_tokens, prompt.high_tokens, prompt.low_tokens)
            if scale != shown:
                lines.append(self._ruler(prompt))
                shown = scale
            if not self.folded and prompt.branch != branch:
                branch = prompt.branch
                said = f"in branch {safe(branch)}" if branch else "in the turn itself"
                lines.append(Text(f"    {cut(said, self.console.width - _MARK)}", style="dim"))
            lines += [self._row(prompt), *self._marks(stretch.after)]
        lines += self._marks(rest)
        if self.folded:
            lines.append(Text(f"  {self._folding(stretches)}; each: --all", style="dim"))
        return lines

    # ------------------------------------------------------------------ which have a row

    def _stretches(self) -> tuple[list[_Stretch], list[Mark]]:
        """Return the prompts that have a row, with what happened, and what came before any."""
        picked = self._picked()
        size = math.ceil(len(self.prompts) / ROWS_MAX)
        stretches: list[_Stretch] = []
        marks: list[Mark] = []
        place = 0
        for row in self.story.rows:
            if isinstance(row, PromptRow):
                marks += row.capped
                if picked:
                    # Others leave what happened before them to the next that has a row.
                    if place in picked:
                        stretches.append(_Stretch(row, marks))
                        marks = []
                elif stretches and stretches[-1].count < size:
                    stretches[-1].take(marks, row)
                    marks = []
                else:
                    stretches.append(_Stretch(row, marks))
                    marks = []
                place += 1
            elif isinstance(row, AlarmRow | OverflowRow) and stretches and not marks:
                stretches[-1].after.append(row)
            else:
                marks.append(row)
        return stretches, marks

    def _picked(self) -> set[int]:
        """Return places of prompts that have a row: all, or those that show how it went.

        Those are the first, the last and both ends of each compaction, and of the others as
        many, evenly, as there is room for. None where the ends alone are too many.
        """
        count = len(self.prompts)
        if not self.folded:
            return set(range(count))
        picked, place = {0, count - 1}, 0
        for row in self.story.rows:
            if isinstance(row, PromptRow):
                place += 1
            elif isinstance(row, CompactionRow | PolicyRow):
                picked |= {max(place - 1, 0), min(place, count - 1)}
        if len(picked) > ROWS_MAX:
            return set()
        for step in range(1, ROWS_MAX):
            if len(picked) < ROWS_MAX:
                picked.add(step * (count - 1) // ROWS_MAX)
        return picked

    def _folding(self, stretches: Sequence[_Stretch]) -> str:
        """Say which prompts have a row."""
        most = max(stretch.count for stretch in stretches)
        if most > 1:
            return f"Each row is the largest of up to {most:,} prompts"
        return f"{len(stretches):,} of {len(self.prompts):,} prompts, compactions with both ends"

    # ------------------------------------------------------------------ rows

    def _turn(self, turn_id: str) -> Text:
        turn = next((row for row in self.story.turns if row.turn_id == turn_id), None)
        if turn is None:
            return Text(cut(f"turn {safe(turn_id)}", self.console.width), style="bold")
        text = Text.assemble((f"turn {turn.turn:,}", "bold"), f"  {safe(turn.turn_id)}")
        text.append(f"  {clock(turn.at, date=True)}")
        if turn.quality is not None:
            score = turn.quality.turn
            text.append(f"  quality {'unknown' if score is None else score}")
        text.truncate(self.console.width, overflow="ellipsis")
        text.stylize("dim", len(f"turn {turn.turn:,}"))
        return text

    def _ruler(self, row: PromptRow) -> Text:
        """Return the head of the rows: where on the scale the window and its marks are."""
        cells = [" "] * self.bar_columns
        ticks = [
            (row.limit_tokens, "", _LIMIT),
            (row.high_tokens, "high ", _HIGH),
            (row.low_tokens, "low ", _LOW),
        ]
        room = self.bar_columns
        for tokens, word, mark in ticks:
            if tokens is None:
                continue
            column = self._column(tokens)
            for text in (f"{word}{tokens:,} {mark}", f"{word}{mark}", mark):
                start = column - len(text) + 1
                if start > 1 and column < room:
                    cells[start : column + 1] = text
                    room = start - 1
                    break
        cells[0] = "0"
        head = columns(
            (Text("  STEP"), self.label),
            (Text("".join(cells)), self.bar_columns),
            (Text("TOKENS".rjust(_TOKENS)), _TOKENS),
            (Text("CACHED".rjust(_CACHED)), _CACHED),
            (Text("QUALITY".rjust(_QUALITY)), _QUALITY),
        )
        head.stylize("dim")
        return head

    def _row(self, row: PromptRow) -> Text:
        name = f"{row.branch}:{row.n}" if row.branch else row.step_id
        label = f"{row.turn} {name}" if self.folded else name
        mark, style = ("✗", "red") if row.status not in ("ok", "") else (" ", "")
        quality = "-" if row.quality is None else str(row.quality)
        return columns(
            (Text(f"{mark} {cut(safe(label), self.label - 3)}", style=style), self.label),
            (self.bar(row), self.bar_columns),
            (Text(f"{row.tokens:,}".rjust(_TOKENS)), _TOKENS),
            (Text(self._cached(row).rjust(_CACHED), style="dim"), _CACHED),
            (Text(quality.rjust(_QUALITY)), _QUALITY),
        )

    def _cached(self, row: PromptRow) -> str:
        """Return what of a prompt was sent before, and what was cached as reported, in percent."""
        expected = _percent(row.cached_expected, row.tokens)
        if not self.cache_told:
            return expected
        reported = "-"
        if row.cached_reported is not None and row.tokens_reported:
            reported = _percent(row.cached_reported, row.tokens_reported)
        return f"{expected.removesuffix('%')}/{reported}"

    # ------------------------------------------------------------------ bars

    def _column(self, tokens: int) -> int:
        """Return the column in which a number of tokens ends."""
        column = math.ceil(max(tokens, 0) / self.whole * self.bar_columns) - 1
        return min(max(column, 0), self.bar_columns - 1)

    def bar(self, row: PromptRow) -> Text:
        """Return the bar of one prompt, with the marks of its policy."""
        cells = [(" ", "")] * self.bar_columns
        if row.limit_tokens is not None:
            capacity = max(0, row.limit_tokens - row.reserved_tokens)
            for place in range(self._column(capacity) + 1, self._column(row.limit_tokens)):
                cells[place] = (_FREE, "dim")
        ticks = ((row.low_tokens, _LOW), (row.high_tokens, _HIGH), (row.limit_tokens, _LIMIT))
        for tokens, mark in ticks:
            if tokens is not None:
                cells[self._column(tokens)] = (mark, "dim")
        length = self._column(row.tokens) + 1 if row.tokens > 0 else 0
        place = 0
        for section, size in shares(row.sections, length).items():
            cells[place : place + size] = [LOOKS.get(section, ("?", ""))] * size
            place += size
        # Within a section that goes on to both sides of it, a mark can be seen without hiding any.
        for tokens, mark in ticks[:2]:
            if tokens is not None:
                at = self._column(tokens)
                if 0 < at < length - 1 and cells[at - 1] == cells[at] == cells[at + 1]:
                    cells[at] = (mark, cells[at][1])
        text = Text(no_wrap=True)
        for mark, style in cells:
            text.append(mark, style=style)
        return text

    # ------------------------------------------------------------------ between the rows

    def _marks(self, marks: Sequence[Mark]) -> list[Text]:
        """Return lines that say what happened before a prompt."""
        lines: list[Text] = []
        for policy in _of(PolicyRow, marks):
            if policy.was:
                lines += self._said("●", "blue", _changed(policy))
        lines += self._capped(_of(ItemRow, marks))
        compactions = _of(CompactionRow, marks)
        if len(compactions) > 1 and self.folded:
            lines += self._compacted_often(compactions)
        else:
            for compaction in compactions:
                lines += self._compacted(compaction)
        alarms = _of(AlarmRow, marks)
        for alarm in alarms[-1:] if self.folded else alarms:
            more = f" (and {len(alarms) - 1:,} before)" if self.folded and len(alarms) > 1 else ""
            lines += self._said("!", "red", _alarm(alarm) + more)
        for overflow in _of(OverflowRow, marks):
            lines += self._said(
                "✗", "red", f"turn {overflow.turn:,}, not sent: {safe(overflow.error)}"
            )
        return lines

    def _capped(self, items: Sequence[ItemRow]) -> list[Text]:
        shown = items if self.everything else items[:LISTED_MAX]
        lines = []
        for item in shown:
            whose = f"result of {safe(item.tool)}" if item.tool else f"item {item.name}"
            said = (
                f"{cut(whose, 40)} cut on arrival: {item.tokens:,} → {item.shown_tokens:,} tokens"
            )
            said += f", recall {safe(item.handle)}" if item.handle else ""
            lines += self._said("✂", "yellow", said)
        if len(items) > len(shown):
            left = len(items) - len(shown)
            lines += self._said("✂", "yellow", f"and {left:,} more results were cut: --all")
        return lines

    def _compacted(self, row: CompactionRow) -> list[Text]:
        why = "" if row.why == "high_water" else ", since it would not have fitted"
        lines = self._said(
            "▾",
            "cyan",
            f"compacted{why}: {row.before:,} → {row.after:,} tokens; {_fates([row])}",
        )
        if row.summary is not None and row.summary_n is not None:
            lines += self._said("", "dim", f"summary by step {row.summary_n}{_cost(row)}")
        if row.forgot:
            lines += self._said("", "dim", f"summaries shown no more: {len(row.forgot):,}")
        if row.failed:
            lines += self._said("✗", "red", f"summary not used: {safe(row.failed)}")
        if row.short:
            lines += self._said("!", "yellow", f"above low water: {safe(row.short)}")
        return lines

    def _compacted_often(self, rows: Sequence[CompactionRow]) -> list[Text]:
        last = rows[-1]
        said = f"compacted {len(rows)} times, last {last.before:,} → {last.after:,} tokens; "
        lines = self._said("▾", "cyan", said + _fates(rows))
        failed, short = sum(bool(r.failed) for r in rows), sum(bool(r.short) for r in rows)
        if failed:
            lines += self._said("✗", "red", f"summaries not used: {failed:,}")
        if short:
            lines += self._said("!", "yellow", f"ended above low water: {short:,}")
        return lines

    def _said(self, mark: str, style: str, text: str) -> list[Text]:
        """Return a remark between the rows, over a few lines at the most."""
        room = max(self.console.width - _MARK - 2, 20)
        body = Text(text if self.everything else cut(text, _TEXT_LINES_MAX * (room - 8)))
        lines = []
        for place, line in enumerate(body.wrap(self.console, room)):
            line.rstrip()
            head = Text.assemble(" " * _MARK, (mark if not place else " ", style), " ")
            head.append(" " * (_MARK + 2 - head.cell_len))
            lines.append(head.append_text(line))
        return lines


# ---------------------------------------------------------------------- words and shares


def shares(sections: Mapping[str, int], length: int) -> dict[str, int]:
    """Return of how many columns each section's part of a bar of `length` is.

    They add up to `length` wherever there are any tokens; what is there at all takes one column,
    as long as there are enough for that.
    """
    there = {name: tokens for name, tokens in sections.items() if tokens > 0}
    total = sum(there.values())
    if not total or length <= 0:
        return {}
    if len(there) > length:
        most = sorted(there, key=lambda name: -there[name])[:length]
        return {name: 1 for name in there if name in most}
    exact = {name: tokens * length / total for name, tokens in there.items()}
    given = {name: max(1, math.floor(size)) for name, size in exact.items()}
    while sum(given.values()) > length:
        fullest = max(
            (name for name in given if given[name] > 1), key=lambda name: given[name] - exact[name]
        )
        given[fullest] -= 1
    while sum(given.values()) < length:
        given[max(given, key=lambda name: exact[name] - given[name])] += 1
    return given


def _fates(rows: Iterable[CompactionRow]) -> str:
    """Return what became of items, in words."""
    counts: dict[str, int] = {}
    for row in rows:
        for fate, count in row.fates.items():
            counts[fate] = counts.get(fate, 0) + count
    said = ", ".join(f"{count:,} {fate}" for fate, count in counts.items() if fate in _FATES)
    return said or "nothing could be left out"


def _cost(row: CompactionRow) -> str:
    usage = row.summary_usage
    if usage is None:
        return ""
    return f", {usage.input_tokens:,} tokens in and {usage.output_tokens:,} out"


def _changed(row: PolicyRow) -> str:
    if not row.changed:
        return f"policy {safe(row.was)} gave way to {safe(row.hash)}"
    parts = [
        f"{safe(name)} {_setting(was)} → {_setting(now)}"
        for name, (was, now) in row.changed.items()
    ]
    return f"policy changed: {', '.join(parts)}"


def _setting(value: Any) -> str:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if whole else cut(safe(as_text(value)), _SETTING_COLUMNS)


def _alarm(row: AlarmRow) -> str:
    quality = "" if row.quality is None else f" to {row.quality}"
    return f"alarm: context quality fell{quality}; {safe(row.why)}"


def _percent(part: int, whole: int) -> str:
    return f"{min(999, round(100 * part / whole))}%" if whole > 0 else "-"


def _of(kind: type[T], rows: Iterable[object]) -> list[T]:
    return [row for row in rows if isinstance(row, kind)]
