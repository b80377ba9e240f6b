"""Sessions as a runtime journals them: what stands in the events adds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from hypothesis import strategies as st

from undercroft.layers.context.items import item_id
from undercroft.layers.context.policy import ContextPolicy
from undercroft.model.event import (
    NIL,
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
from undercroft.model.message import Answer, Usage
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import Failure, StepStatus

BEGAN = 1_700_000_000.0
POLICY = ContextPolicy(limit_tokens=8_000, reserved_tokens=1_000, high_share=0.9, low_share=0.5)


def raw(value: Any) -> msgspec.Raw:
    """Return a value as events carry it."""
    return msgspec.Raw(msgspec.msgpack.encode(value))


@dataclass
class Shown:
    """An item as the window has it."""

    kind: str
    tokens: int
    shown: int
    turn: int


@dataclass
class Session:
    """A session in the making, of one line of code.

    Attributes:
        turns: The events of each turn.
        items: By id.
        fixed: Tokens of system text, tools and pins.
    """

    policy: ContextPolicy = POLICY
    name: str | None = "s-1"
    fixed: tuple[int, int, int] = (420, 610, 60)
    turns: list[list[AnyEvent]] = field(default_factory=list)
    items: dict[int, Shown] = field(default_factory=dict)
    ledger: int = 0
    summaries: int = 0
    sent: int = 0
    n: int = 0
    place: int = 0
    at: float = BEGAN
    hash: str = ""
    fates: list[tuple[int, str, int, int, str, str]] = field(default_factory=list)

    @property
    def events(self) -> list[AnyEvent]:
        """Of the turn that goes on."""
        return self.turns[-1]

    @property
    def turn_id(self) -> str:
        """Of the turn that goes on."""
        return f"t-{len(self.turns) - 1:03}"

    def turn(self, policy: ContextPolicy | None = None) -> None:
        """Begin a turn, perhaps under another policy."""
        number, self.n, self.place = len(self.turns), 0, 0
        self.at += 60
        self.policy = policy or self.policy
        was, self.hash = self.hash, self.policy.hash
        new = was != self.hash
        self.turns.append([
            TurnStarted(
                f"t-{number:03}", "handler", "shop:assist", b"", raw({}), self.name, self.at
            ),
            ContextOpened(
                number, self.hash, self.at, raw(self.policy.settings) if new else NIL,
                was if new else "",
            ),
        ])  # fmt: skip

    @property
    def sections(self) -> tuple[int, ...]:
        """Tokens of the seven sections."""
        now = len(self.turns) - 1
        current = sum(item.shown for item in self.items.values() if item.turn == now)
        recent = sum(item.shown for item in self.items.values() if item.turn != now)
        return (*self.fixed, self.ledger, self.summaries, recent, current)

    def add(self, kind: str, tokens: int, shown: int | None = None) -> int:
        """Add an item; return its id."""
        item = item_id(len(self.turns) - 1, self.place)
        self.place += 1
        shown = tokens if shown is None else shown
        self.items[item] = Shown(kind, tokens, shown, len(self.turns) - 1)
        return item

    def prompt(  # noqa: PLR0913  each says one thing of the prompt
        self,
        new: Sequence[tuple[str, int]] = (),
        *,
        capped: Sequence[tuple[str, int, int]] = (),
        score: int = -1,
        usage: Usage | None = None,
        tools: Sequence[str] = (),
        branch: str = "",
        error: Failure | None = None,
    ) -> int:
        """Send a prompt that adds `new`, as (kind, tokens), and what was cut, with what is left."""
        for place, tool in enumerate(tools):
            self.tool(self.n + 1 + place, tool)
        steps = list(range(self.n + 1, self.n + 1 + len(tools)))
        self.n += len(tools) + 1
        n = self.n
        added, cut = [], []
        for kind, tokens in new:
            added.append((self.add(kind, tokens), tokens, kind))
        for kind, tokens, left in capped:
            item = self.add(kind, tokens, left)
            added.append((item, left, kind))
            cut.append((item, tokens, f"r{len(self.turns) - 1}.{self.place - 1}"))
        sections = self.sections
        whole = sum(sections)
        expected = min(self.sent, whole)
        prompt = [["tool", step, f"c{step}"] for step in steps]
        self.at += 2
        self.events.extend([
            PromptAssembled(
                n, whole, self.policy.reserved_tokens, sections, tuple(added), tuple(cut),
                expected, usage is not None, score, branch,
            ),
            StepStarted(n, "model", "model", self.at, args=raw({"prompt": prompt})),
        ])  # fmt: skip
        if error is not None:
            self.events[-1] = StepEnded(n, StepStatus.FAILED, 0.0, error=error, name="model")
            return n
        self.sent = whole
        if usage is None:
            usage = Usage(whole, 40, expected)
        self.events.append(StepEnded(n, StepStatus.OK, 1.0, raw(Answer("Done.", (), usage))))
        return n

    def tool(self, n: int, name: str) -> None:
        """Run a tool."""
        self.events.append(StepStarted(n, name, "tool", self.at))
        self.events.append(StepEnded(n, StepStatus.OK, 0.1, raw("…")))

    def leave(self, ids: Sequence[int], fate: str, reason: str, left: int = 0) -> None:
        """Say what becomes of items with the next compaction."""
        for item in ids:
            shown = self.items[item]
            handle = f"r{item >> 20}.{item & 0xFFFFF}" if fate == "elided" else ""
            self.fates.append((item, fate, shown.shown, left, reason, handle))
            shown.shown = left

    def compact(self, why: str = "high_water", coming: int = 0, **more: Any) -> None:
        """Compact as was said, before the next prompt, which adds `coming` tokens."""
        before = sum(self.sections) + coming + sum(f[2] - f[3] for f in self.fates)
        self.summaries = more.pop("summaries", self.summaries)
        self.ledger = more.pop("ledger_tokens", self.ledger)
        after = sum(self.sections) + coming
        fates, self.fates = tuple(self.fates), []
        self.events.append(
            ContextCompacted(
                self.n + 1, why, before, after, self.policy.low_tokens, self.at, fates, **more
            )
        )
        self.sent = sum(self.fixed)

    def score(self, turn: int, session: int, parts: Sequence[float], seen: int) -> None:
        """Say how good the context was."""
        self.events.append(ContextScored(turn, session, tuple(parts), seen, self.at))

    def alarm(self, score: int, why: str) -> None:
        """Say that it fell."""
        self.events.append(ContextAlarmed(self.n, score, 1.3, why, self.at))

    def end(self, error: Failure | None = None) -> None:
        """End the turn."""
        status = TurnStatus.FAILED if error is not None else TurnStatus.DONE
        self.events.append(TurnEnded(status, self.at, error=error))


def any_event(words: st.SearchStrategy[str]) -> st.SearchStrategy[AnyEvent]:
    """Return any event that has to do with a window, whether it makes sense or not."""
    numbers = st.integers(0, 3) | st.integers(-(2**40), 2**40)
    words |= st.sampled_from(["high_water", "kept", "elided", "b"])
    raws = st.sampled_from([NIL, raw({}), raw({"prompt": [["tool", 1, "x"]]}), raw([1]), raw("x")])
    floats = st.floats()
    fates = st.tuples(numbers, words, numbers, numbers, words, words)
    return st.one_of(
        st.builds(TurnStarted, words, words, words, st.binary(), raws, st.none() | words, floats),
        st.builds(ContextOpened, numbers, words, floats, raws, words),
        st.builds(
            PromptAssembled, numbers, numbers, numbers, st.lists(numbers, max_size=9).map(tuple),
            st.lists(st.tuples(numbers, numbers, words), max_size=4).map(tuple),
            st.lists(st.tuples(numbers, numbers, words), max_size=4).map(tuple), numbers,
            st.booleans(), numbers, st.just("") | words,
        ),
        st.builds(
            ContextCompacted, numbers, words, numbers, numbers, numbers, floats,
            st.lists(fates, max_size=4).map(tuple),
            words, raws, words, words, words, st.lists(numbers, max_size=3).map(tuple), numbers,
        ),
        st.builds(
            ContextScored, numbers, numbers, st.lists(floats, max_size=7).map(tuple), numbers,
            floats,
        ),
        st.builds(ContextAlarmed, numbers, numbers, floats, words, floats),
        st.builds(StepStarted, numbers, words, words, floats, args=raws),
        st.builds(StepEnded, numbers, st.just(StepStatus.OK), floats, raws),
        st.builds(
            TurnEnded, st.just(TurnStatus.FAILED), floats,
            error=st.just(Failure("ContextOverflowError", "too much")),
        ),
    )  # fmt: skip


OLD = "over the high-water mark"


def example() -> Session:
    """Return three turns in which everything happens that can."""
    session = Session()
    session.turn()
    session.prompt([("user", 120)])
    session.prompt([("calls", 60), ("result", 900)], tools=["find_orders"], score=100)
    session.prompt(
        [("calls", 40)], capped=[("result", 12_400, 1_700)], tools=["list_invoices"], score=98
    )
    session.score(98, 98, (1.0, 0.96, -1.0, -1.0, 1.0), 9)
    session.end()
    session.turn()
    session.prompt([("assistant", 220), ("user", 80)], score=98)
    session.prompt([("calls", 90), ("result", 800), ("result", 640)],
                   tools=["get_order", "get_order"], score=97)  # fmt: skip
    ids = list(session.items)
    session.leave(ids[2:3], "elided", OLD, 45)
    session.leave(ids[1:2], "summarised", OLD)
    session.leave(ids[3:5], "summarised", OLD)
    session.n += 1
    session.events.append(StepStarted(session.n, "summary", "model", session.at))
    answer = Answer("{}", (), Usage(2_610, 240))
    session.events.append(StepEnded(session.n, StepStatus.OK, 2.0, raw(answer)))
    session.compact(
        coming=790,
        summary=raw({"intent": "a refund"}),
        summary_n=session.n,
        summaries=240,
        ledger_tokens=130,
    )
    session.prompt([("calls", 90), ("result", 700)], tools=["get_order"], score=90)
    session.alarm(71, "what the user had said was no longer there when it was used")
    session.score(71, 84, (0.9, 0.8, 1.0, 0.5, 1.0), 23)
    session.end()
    larger = replace(POLICY, limit_tokens=10_000, high_share=0.8)
    session.turn(larger)
    session.prompt([("assistant", 300), ("user", 1_000)], score=80)
    ids = list(session.items)
    session.leave([ids[8], ids[9], ids[11]], "elided", OLD, 45)
    session.leave(ids[5:7], "dropped", OLD)
    session.compact(
        "overflow",
        coming=4_650,
        failed="it names an order that nobody spoke of",
        short="system, tools and pins take 1,090 tokens, and what may not be taken yet 6,800",
    )
    session.prompt(
        [("calls", 60), ("result", 2_390), ("result", 2_200)], tools=["get_order", "list_orders"]
    )
    error = Failure("ContextOverflowError", "context: the prompt does not fit the window")
    session.prompt([("calls", 90), ("result", 1_800)], tools=["get_order"], error=error)
    session.score(-1, 84, (0.9, 0.8, 1.0, 0.5, 1.0), 26)
    session.end(error)
    return session


def long(prompts: int) -> Session:
    """Return a session of so many prompts that compacts whenever it must."""
    session = Session()
    for number in range(prompts):
        if number % 5 == 0:
            session.turn()
        if sum(session.sections) + 500 > session.policy.high_tokens:
            ids = [item for item, shown in session.items.items() if shown.shown][:-2]
            session.leave(ids, "dropped", OLD)
            session.compact(ledger_tokens=min(700, session.ledger + 90))
        session.prompt([("user", 80 + number * 37 % 90), ("result", 150 + number * 61 % 260)],
                       score=max(60, 100 - number // 7))  # fmt: skip
    return session
