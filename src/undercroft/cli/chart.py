"""The window of a session as bars: one a prompt, stacked by section, on one scale.

Keeps: a section that is there takes a column at least while there are enough, and a bar is as
long as its prompt is large; what stands between the rows is never left out, only put together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from undercroft.cli.console import columns
from undercroft.cli.remarks import MARGIN, Mark, remarks
from undercroft.cli.safe import clock, cut, safe
from undercroft.layers.context.policy import Section
from undercroft.layers.context.story_rows import (
    AlarmRow,
    CompactionRow,
    OverflowRow,
    PolicyRow,
    PromptRow,
    Story,
)

# With more prompts than this not each has a row, so that a session is a page.
ROWS_MAX = 24
_TOKENS, _CACHED, _QUALITY = 10, 8, 8
_LABEL, _LABEL_FOLDED = 11, 14
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
_LOW, _HIGH, _LIMIT, _FREE, _BEYOND = "┊", "╎", "│", "·", "»"


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
        # What is larger than any window was not sent, and would dwarf all that was.
        self.whole = max(limits, default=0) or max([1, *(row.tokens for row in self.prompts)])
        # Whether the provider says anything of its cache.
        self.cache_told = any(row.cached_reported for row in self.prompts)
        self.turns = {row.turn_id: row for row in story.turns}

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
                lines.append(Text(f"    {cut(said, self.console.width - MARGIN)}", style="dim"))
            lines += [self._row(prompt), *self._marks(stretch.after)]
        lines += self._marks(rest)
        if self.folded:
            lines.append(
                Text(f"  {self._folding(stretches)}; --all has a row for each", style="dim")
            )
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

    def _marks(self, marks: Sequence[Mark]) -> list[Text]:
        return remarks(marks, self.console, folded=self.folded, everything=self.everything)

    # ------------------------------------------------------------------ rows

    def _turn(self, turn_id: str) -> Text:
        turn = self.turns.get(turn_id)
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
            for text in (f"{word}{tokens:,}{mark}", f"{word.strip()}{mark}", mark):
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
        cells = self._empty(row)
        length = self._column(row.tokens) + 1 if row.tokens > 0 else 0
        place = 0
        for section, size in shares(row.sections, length).items():
            cells[place : place + size] = [LOOKS.get(section, ("?", ""))] * size
            place += size
        # Within a section that goes on to both sides of it, a mark can be seen without hiding any.
        for tokens, mark in ((row.low_tokens, _LOW), (row.high_tokens, _HIGH)):
            at = self._column(tokens or 0)
            within = tokens is not None and 0 < at < length - 1
            if within and cells[at - 1] == cells[at] == cells[at + 1]:
                cells[at] = (mark, cells[at][1])
        if row.tokens > self.whole:
            cells[-1] = (_BEYOND, cells[-1][1])
        text = Text(no_wrap=True)
        for style, run in groupby(cells, key=lambda cell: cell[1]):
            text.append("".join(mark for mark, _ in run), style=style)
        return text

    def _empty(self, row: PromptRow) -> list[tuple[str, str]]:
        """Return the window of a prompt without what is in it, as marks and their styles."""
        cells = [(" ", "")] * self.bar_columns
        if row.limit_tokens is not None:
            capacity = max(0, row.limit_tokens - row.reserved_tokens)
            for place in range(self._column(capacity) + 1, self._column(row.limit_tokens)):
                cells[place] = (_FREE, "dim")
        ticks = ((row.low_tokens, _LOW), (row.high_tokens, _HIGH), (row.limit_tokens, _LIMIT))
        for tokens, mark in ticks:
            if tokens is not None:
                cells[self._column(tokens)] = (mark, "dim")
        return cells


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


def _percent(part: int, whole: int) -> str:
    return f"{min(999, round(100 * part / whole))}%" if whole > 0 else "-"
