"""From a session's events to the rows that are drawn: its window over time, and what it lost.

Keeps: the same events give the same rows; an item is counted once, under the one fate that the
last prompt shows it with; what the journal does not say is None and never guessed.
Leaves to others: reading the journal, and drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from undercroft.errors import SettingError
from undercroft.layers.context.items import Fate, item_name
from undercroft.layers.context.policy import ContextPolicy, Kind, Section
from undercroft.layers.context.story_rows import (
    AlarmRow,
    CompactionRow,
    ItemRow,
    OverflowRow,
    PolicyRow,
    PromptRow,
    QualityRow,
    ReasonRow,
    ReportRow,
    Row,
    Story,
    TurnRow,
)
from undercroft.model.event import (
    NIL_BYTES,
    AnyEvent,
    ContextAlarmed,
    ContextCompacted,
    ContextOpened,
    ContextScored,
    PromptAssembled,
    StepEnded,
    StepStarted,
    TurnEnded,
    TurnStarted,
)
from undercroft.model.message import Usage
from undercroft.model.step import MODEL, Failure, step_id

# The parts of a score, in the order in which `ContextScored` has them.
PARTS = ("support", "liveness", "repeats", "re_asks", "contradiction")
CAPPED = "larger than a result may be"
_decode = msgspec.msgpack.Decoder().decode
_SECTIONS = tuple(section.value for section in Section)
_OVERFLOW = "ContextOverflowError"


def tell(session: str | None, turns: Iterable[Iterable[AnyEvent]]) -> Story:
    """Return the story of a session's window from the events of its turns, oldest first."""
    telling = _Telling()
    for events in turns:
        telling.turn(list(events))
    return telling.story(session)


class _Marks(NamedTuple):
    """What a policy says that is drawn."""

    limit: int | None = None
    reserved: int | None = None
    high: int | None = None
    low: int | None = None


class _Told(msgspec.Struct):
    """What of a model's answer is of interest here."""

    usage: Usage | None = None


_read_answer = msgspec.msgpack.Decoder(_Told).decode


@dataclass(slots=True)
class _Line:
    """What the last prompt of a line of code shows of its items, and what comes next."""

    items: dict[int, ItemRow] = field(default_factory=dict)
    # Compactions that no prompt has followed yet, by step: one that is noted again replaces.
    due: dict[tuple[str, int], ContextCompacted] = field(default_factory=dict)


class _Turn:
    """What a turn's events say of its steps, whatever their order."""

    def __init__(self, events: Sequence[AnyEvent]) -> None:
        self.id = ""
        self.opened: ContextOpened | None = None
        self.started: dict[int, StepStarted] = {}
        self.ended: dict[int, StepEnded] = {}
        self.lines: dict[str, _Line] = {}
        self.quality: QualityRow | None = None
        for event in events:
            match event:
                case TurnStarted():
                    self.id = event.turn_id
                case StepStarted():
                    self.started[event.n] = event
                case StepEnded():
                    self.ended[event.n] = event
                case _:
                    pass

    def step_id(self, n: int) -> str:
        """Return the id of a step; empty where there is none."""
        event = self.started.get(n) or self.ended.get(n)
        return step_id(event.name, n) if event is not None else ""

    def usage(self, n: int) -> Usage | None:
        """Return what a model's step took, as the provider reported it."""
        ended = self.ended.get(n)
        try:
            return _read_answer(ended.value).usage if ended is not None else None
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return None  # it is no answer

    @property
    def number(self) -> int:
        """Of the turn in its session."""
        return self.opened.turn if self.opened is not None else 0

    def tools(self, event: PromptAssembled) -> dict[int, str]:
        """Return whose the results are that a prompt adds, as far as the journal says."""
        results = [item for item, _, kind in event.new if kind == Kind.RESULT]
        started = self.started.get(event.n)
        asked = _plain(started.args) if started is not None and results else None
        entries = asked.get("prompt") if isinstance(asked, dict) else None
        steps = [
            entry[1]
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, list) and len(entry) > 1 and entry[0] == "tool"
        ]
        # The first of a turn may come from the turn before, which had ended before it sent them.
        if len(steps) > len(results):
            return {}
        return {
            item: step.name
            for item, n in zip(results[len(results) - len(steps) :], steps, strict=True)
            if isinstance(n, int) and (step := self.started.get(n) or self.ended.get(n))
        }


class _Telling:
    """The story in the making."""

    def __init__(self) -> None:
        self.rows: list[Row | None] = []
        self.turns: list[TurnRow] = []
        self.others = 0
        self.policies: dict[str, tuple[_Marks, dict[str, Any]]] = {}
        self.policy = ""
        # The line of the turns themselves goes on from one to the next.
        self.main = _Line()
        self.places: dict[tuple[str, str, int, type[Row]], int] = {}
        # By whether it is one of the turn itself.
        self.last: dict[bool, tuple[PromptRow, _Line]] = {}

    def turn(self, events: Sequence[AnyEvent]) -> None:
        """Take in a turn."""
        turn = _Turn(events)
        turn.lines[""] = self.main
        for event in events:
            match event:
                case ContextOpened():
                    self._opened(turn, event)
                case ContextCompacted():
                    self._compacted(turn, event)
                case PromptAssembled():
                    self._prompt(turn, event)
                case ContextAlarmed():
                    score = _known(event.score)
                    self._add(turn, AlarmRow(turn.id, turn.number, event.n, event.at, score,
                                             event.level, event.why))  # fmt: skip
                case ContextScored():
                    turn.quality = _quality(event)
                case TurnEnded(error=Failure() as error) if _overflowed(event):
                    # Where no prompt was noted, the end of the turn tells.
                    if not isinstance(self.rows[-1] if self.rows else None, OverflowRow):
                        row = OverflowRow(turn.id, turn.number, None, error.message)
                        self.rows.append(row)
                case _:
                    pass
        if turn.opened is None:
            self.others += 1
            return
        at, policy = turn.opened.at, turn.opened.policy
        self.turns.append(TurnRow(turn.id, turn.number, at, policy, turn.quality))

    def _add(
        self, turn: _Turn, row: PromptRow | CompactionRow | AlarmRow, branch: str = ""
    ) -> None:
        """Add a row; one that a resumed turn notes again takes the place of the first."""
        key = (turn.id, branch, row.n, type(row))
        if key in self.places:
            self.rows[self.places[key]] = None
        self.places[key] = len(self.rows)
        self.rows.append(row)

    def _opened(self, turn: _Turn, event: ContextOpened) -> None:
        turn.opened = event
        settings = _plain(event.settings)
        if isinstance(settings, dict):
            self.policies[event.policy] = _marks(settings), {str(k): settings[k] for k in settings}
        if event.policy == self.policy:
            return
        marks, now = self.policies.get(event.policy, (_Marks(), {}))
        was = self.policies.get(self.policy, (_Marks(), {}))[1]
        changed = {
            name: (was.get(name), now.get(name))
            for name in (was | now if was and now else ())
            if was.get(name) != now.get(name)
        }
        row = PolicyRow(turn.id, event.turn, event.policy, event.was or self.policy, event.at,
                        *marks, changed, now)  # fmt: skip
        self.policy = event.policy
        self.rows.append(row)

    def _compacted(self, turn: _Turn, event: ContextCompacted) -> None:
        line = turn.lines.setdefault(event.branch, _Line())
        line.due[turn.id, event.n] = event
        items = []
        for item, fate, before, after, reason, handle in event.fates:
            was = line.items.get(item)
            kind, tool = (was.kind, was.tool) if was is not None else ("", "")
            items.append(
                ItemRow(item, item_name(item), kind, tool, before, after, fate, reason, handle)
            )
        fates = {fate.value: sum(i.fate == fate for i in items) for fate in Fate}
        row = CompactionRow(
            turn.id, turn.number, event.n, event.branch, event.at, event.why, event.before,
            event.after, event.target, {fate: n for fate, n in fates.items() if n}, tuple(items),
            event.ledger, _plain(event.summary), turn.step_id(event.summary_n),
            turn.usage(event.summary_n), event.failed, event.short, event.forgot,
        )  # fmt: skip
        self._add(turn, row, event.branch)

    def _prompt(self, turn: _Turn, event: PromptAssembled) -> None:
        line = turn.lines.setdefault(event.branch, _Line())
        self._take_items(turn, line, event)
        began, ended = turn.started.get(event.n), turn.ended.get(event.n)
        usage = turn.usage(event.n)
        policy = turn.opened.policy if turn.opened is not None else self.policy
        marks = self.policies.get(policy, (_Marks(), {}))[0]
        new = {item for item, *_ in event.new}
        row = PromptRow(
            turn_id=turn.id,
            turn=turn.number,
            n=event.n,
            step_id=turn.step_id(event.n) or step_id(MODEL, event.n),
            branch=event.branch,
            at=began.at if began is not None else None,
            policy=policy,
            limit_tokens=marks.limit,
            reserved_tokens=event.reserved,
            high_tokens=marks.high,
            low_tokens=marks.low,
            tokens=event.tokens,
            sections=_sections(event.sections),
            new_items=len(new),
            new_tokens=sum(tokens for _, tokens, _ in event.new),
            capped=tuple(
                line.items[item]
                for item, *_ in event.capped
                if item in new and line.items[item].reason == CAPPED
            ),
            cached_expected=event.cached,
            cached_reported=usage.cached_tokens if usage is not None else None,
            tokens_reported=usage.input_tokens if usage is not None else None,
            anchored=event.anchored,
            quality=_known(event.score),
            status=str(ended.status) if ended is not None else "",
            sent=not _overflowed(ended),
        )
        self._add(turn, row, event.branch)
        if ended is not None and ended.error is not None and not row.sent:
            self.rows.append(OverflowRow(turn.id, turn.number, event.n, ended.error.message))
        self.last[not event.branch] = row, line

    def _take_items(self, turn: _Turn, line: _Line, event: PromptAssembled) -> None:
        """Bring what is known of a line's items to what this prompt shows of them."""
        tools = turn.tools(event)
        for item, tokens, kind in event.new:
            # A prompt that is assembled again adds nothing.
            if item not in line.items:
                line.items[item] = ItemRow(
                    item, item_name(item), kind, tools.get(item, ""), tokens, tokens,
                    Fate.KEPT.value, "", "",
                )  # fmt: skip
        for item, tokens, handle in event.capped:
            was = line.items.get(item)
            if was is not None and was.fate == Fate.KEPT:
                # One of the two is of what came, and the other of what is shown of it.
                line.items[item] = msgspec.structs.replace(
                    was,
                    tokens=max(was.tokens, tokens),
                    shown_tokens=min(was.tokens, tokens),
                    fate=Fate.ELIDED.value,
                    reason=CAPPED,
                    handle=handle,
                )
        # Last: what is new may be too much at once.
        for due in line.due.values():
            for item, fate, before, after, reason, handle in due.fates:
                was = line.items.get(item)
                if was is None:
                    was = ItemRow(item, item_name(item), "", "", before, before, "", "", "")
                line.items[item] = msgspec.structs.replace(
                    was, shown_tokens=after, fate=fate, reason=reason, handle=handle
                )
        line.due.clear()

    def story(self, session: str | None) -> Story:
        """Return the story so far."""
        last = self.last.get(True, self.last.get(False))
        scores = [turn.quality for turn in self.turns if turn.quality is not None]
        return Story(
            session=session,
            turns=tuple(self.turns),
            other_turns=self.others,
            rows=tuple(row for row in self.rows if row is not None),
            quality=scores[-1] if scores else None,
            report=_report(*last) if last is not None else None,
        )


def _report(row: PromptRow, line: _Line) -> ReportRow:
    """Return the loss report of a prompt."""
    groups: dict[tuple[str, str], list[ItemRow]] = {}
    for item in line.items.values():
        groups.setdefault((item.fate, item.reason), []).append(item)
    order = {fate.value: place for place, fate in enumerate(Fate)}
    reasons = [
        ReasonRow(
            fate,
            reason,
            len(items),
            sum(item.tokens for item in items),
            sum(item.shown_tokens for item in items),
            sum(bool(item.handle) for item in items),
        )
        for (fate, reason), items in groups.items()
    ]
    reasons.sort(key=lambda group: (order.get(group.fate, len(order)), -group.tokens, group.reason))
    items = tuple(line.items[item] for item in sorted(line.items))
    return ReportRow(row.turn_id, row.turn, row.step_id, row.tokens, tuple(reasons), items)


def _marks(settings: dict[str, Any]) -> _Marks:
    """Return what a journaled policy says of sizes; a newer one may say it otherwise."""
    names = ("limit_tokens", "reserved_tokens", "high_share", "low_share")
    try:
        policy = ContextPolicy(**{name: settings[name] for name in names})
    except (KeyError, SettingError):
        return _Marks()
    return _Marks(
        policy.limit_tokens, policy.reserved_tokens, policy.high_tokens, policy.low_tokens
    )


def _sections(tokens: Sequence[int]) -> dict[str, int]:
    """Return tokens by section; what a newer version adds is counted as current."""
    named = dict.fromkeys(_SECTIONS, 0)
    for place, count in enumerate(tokens):
        named[_SECTIONS[min(place, len(_SECTIONS) - 1)]] += max(0, count)
    return named


def _quality(event: ContextScored) -> QualityRow:
    parts = dict(zip(PARTS, map(_share, event.parts), strict=False))
    return QualityRow(_known(event.turn), _known(event.session), parts, event.seen, event.at)


def _overflowed(event: StepEnded | TurnEnded | None) -> bool:
    return event is not None and event.error is not None and event.error.type == _OVERFLOW


def _known(score: int) -> int | None:
    return score if score >= 0 else None


def _share(part: float) -> float | None:
    return part if part >= 0 else None


def _plain(raw: msgspec.Raw) -> Any:
    """Return what a body says; None where it says nothing that can be read."""
    if bytes(raw) == NIL_BYTES:
        return None
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
