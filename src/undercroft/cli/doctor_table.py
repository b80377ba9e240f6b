"""The report of many runs for people: a line a run as it is read, and totals at the end.

Keeps: nothing of a run is held but what the totals count.
"""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.text import Text

from undercroft.cli.console import columns, put, say
from undercroft.cli.doctor_report import COLOURS, word
from undercroft.cli.safe import cut, safe
from undercroft.doctor.report import LAYERS, NONE, Diagnosis, Verdict
from undercroft.doctor.telling import SIGNS

# On a terminal nobody reads more; the totals count all of them.
ROWS_MAX = 400
_RULES_MAX = 10

_FORMAT, _STEPS, _SIGN, _CAUSE = 15, 7, 4, 13
_HEADS = ("SEQ", "PAR", "CON", "BRE", "CTX", "OBS")
_ROOM_MIN, _WIDE = 12, 76


class Table:
    """Lines that are printed as runs are read.

    Args:
        console: Where to.
        everything: Whether a terminal is given every line, however many.
    """

    def __init__(self, console: Console, *, everything: bool = False) -> None:
        self._console = console
        self._rows_max = None if everything or not console.is_terminal else ROWS_MAX
        # Left out first where a terminal is narrow.
        self._format = _FORMAT if console.width >= _WIDE else 0
        room = console.width - self._format - _STEPS - len(LAYERS) * _SIGN - _CAUSE
        self._room = max(room, _ROOM_MIN)
        self._verdicts: Counter[tuple[str, Verdict]] = Counter()
        self._rules: Counter[str] = Counter()
        self._causes: Counter[str | None] = Counter()
        self._rows = 0

    def add(self, diagnosis: Diagnosis) -> None:
        """Print the line of a run."""
        if not self._rows:
            texts = ("TRACE", "FORMAT", "STEPS")
            head = self._line(texts, [Text(head) for head in _HEADS], Text("CAUSE"))
            head.stylize("dim")
            put(self._console, [head])
        self._rows += 1
        self._causes[diagnosis.cause] += 1
        for one in diagnosis.layers:
            self._verdicts[one.layer, one.verdict] += 1
            if one.verdict is Verdict.MISSING:
                self._rules.update({found.rule.name for found in one.findings})
        if self._rows_max is None or self._rows <= self._rows_max:
            put(self._console, [self._row(diagnosis)])
        elif self._rows == self._rows_max + 1:
            put(self._console, [Text("… more are read, and counted below; to see each: --all")])

    def _row(self, diagnosis: Diagnosis) -> Text:
        name = safe(diagnosis.name)
        room = self._room - 2
        # The end of a path tells more than its beginning.
        name = f"…{name[len(name) - room + 1 :]}" if len(name) > room and "/" in name else name
        signs = [Text(SIGNS[one.verdict], style=COLOURS[one.verdict]) for one in diagnosis.layers]
        cause = diagnosis.cause or "?"
        style = "" if diagnosis.missing else "dim"
        texts = (cut(name, room), diagnosis.format, f"{diagnosis.steps:,}")
        line = self._line(texts, signs, Text(cause, style=style))
        if diagnosis.missing:
            line.stylize("bold", 0, len(cut(name, room)))
        return line

    def _line(self, texts: tuple[str, str, str], signs: list[Text], cause: Text) -> Text:
        name, form, steps = texts
        return columns(
            (Text(name), self._room),
            (Text(cut(safe(form), self._format - 1), style="dim"), self._format),
            (Text(cut(steps, _STEPS - 2).rjust(_STEPS - 2), style="dim"), _STEPS),
            *((mark, _SIGN) for mark in signs),
            (cause, _CAUSE),
        )

    def close(self, unread: int) -> None:
        """Print the totals.

        Args:
            unread: How many things could not be read.
        """
        put(self._console, [Text()])
        for verdict in Verdict:
            counts = [self._verdicts[layer, verdict] for layer in LAYERS]
            cells = [Text(_short(count), style=COLOURS[verdict]) for count in counts]
            head = Text.assemble((SIGNS[verdict], COLOURS[verdict]), f" {word(verdict)}")
            width = self._room + self._format + _STEPS
            put(self._console, [columns((head, width), *((cell, _SIGN) for cell in cells))])
        put(self._console, [Text()])
        say(self._console, self._sentence(unread))
        for rule, count in self._rules.most_common(_RULES_MAX):
            runs = "1 run" if count == 1 else f"{count:,} runs"
            put(self._console, [Text(f"  {cut(f'{rule} in {runs}', self._console.width - 2)}")])
        if len(self._rules) > _RULES_MAX:
            left = len(self._rules) - _RULES_MAX
            put(self._console, [Text(f"  … {left} more rules: --json has all", style="dim")])

    def _sentence(self, unread: int) -> str:
        clean, blind = self._causes[NONE], self._causes[None]
        found = self._rows - clean - blind
        none = f"in {clean:,} none was" if found else "no layer was missing"
        some = f"in {found:,} a layer was missing, " if found else ""
        said = [f"{self._rows:,} runs: {some}{none}"]
        if blind:
            said.append(f"of {blind:,} nothing can be said")
        more = f" {unread:,} more could not be read, as said on stderr." if unread else ""
        return f"{', '.join(said)}.{more}"


def _short(count: int) -> str:
    """Return a count in at most three columns."""
    if count < 1_000:  # noqa: PLR2004  three digits
        return str(count)
    return f"{count // 1_000}k" if count < 100_000 else "…"  # noqa: PLR2004  two digits and a letter
