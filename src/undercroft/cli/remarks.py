"""What happened between the prompts of a window, in a line or two each.

Keeps: nothing is left out where rows are put together: what is alike is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from rich.console import Console
from rich.text import Text

from undercroft.cli.safe import as_text, cut, safe
from undercroft.layers.context.items import Fate
from undercroft.layers.context.story_rows import (
    AlarmRow,
    CompactionRow,
    ItemRow,
    OverflowRow,
    PolicyRow,
    Row,
)

T = TypeVar("T")
Mark: TypeAlias = Row | ItemRow

MARGIN = 4
LISTED_MAX = 3
_TEXT_LINES_MAX = 3
_SETTING_COLUMNS = 30


def remarks(
    marks: Sequence[Mark], console: Console, *, folded: bool, everything: bool
) -> list[Text]:
    """Return lines that say what happened between two rows.

    Args:
        marks: What happened, in its order.
        console: Where they will stand.
        folded: Whether what is alike is put together.
        everything: Whether each is told in full.
    """
    return _Remarks(console, folded=folded, everything=everything).lines(marks)


class _Remarks:
    """How remarks are set."""

    def __init__(self, console: Console, *, folded: bool, everything: bool) -> None:
        self.console, self.folded, self.everything = console, folded, everything

    def lines(self, marks: Sequence[Mark]) -> list[Text]:
        """Return lines that say what happened."""
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
            lines += self._said("✗", "red", f"not sent: {safe(overflow.error)}")
        return lines

    def _capped(self, items: Sequence[ItemRow]) -> list[Text]:
        shown = items if self.everything else items[:LISTED_MAX]
        lines = []
        for item in shown:
            whose = f"result of {safe(item.tool)}" if item.tool else f"item {safe(item.name)}"
            less = f" → {item.shown_tokens:,}" if item.shown_tokens < item.tokens else ""
            said = f"{cut(whose, 40)} cut on arrival: {item.tokens:,}{less} tokens"
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
        if row.summary is not None and row.summary_step:
            lines += self._said("", "dim", f"summary by {safe(row.summary_step)}{_cost(row)}")
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
        room = max(self.console.width - MARGIN - 2, 20)
        body = Text(text if self.everything else cut(text, _TEXT_LINES_MAX * (room - 8)))
        lines = []
        for place, line in enumerate(body.wrap(self.console, room)):
            line.rstrip()
            head = Text.assemble(" " * MARGIN, (mark if not place else " ", style), " ")
            head.append(" " * (MARGIN + 2 - head.cell_len))
            lines.append(head.append_text(line))
        return lines


def _fates(rows: Iterable[CompactionRow]) -> str:
    """Return what became of items, in words."""
    counts: dict[str, int] = {}
    for row in rows:
        for fate, count in row.fates.items():
            counts[fate] = counts.get(fate, 0) + count
    said = ", ".join(f"{count:,} {fate}" for fate, count in counts.items() if fate != Fate.KEPT)
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


def _of(kind: type[T], rows: Iterable[object]) -> list[T]:
    return [row for row in rows if isinstance(row, kind)]
