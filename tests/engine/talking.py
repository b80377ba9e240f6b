"""Conversations under a context policy: who answers, who summarises, and what was sent.

Keeps: a model answers by its prompt alone, so that it says the same in every life of a turn;
every prompt that is sent is looked at: nothing in it lacks its other half, and it fits.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, zip_longest
from typing import Any

import msgspec

import undercroft as uc
from tests.layers.context.ideal import ideal
from undercroft.errors import StoreError
from undercroft.layers.context.counting import Counts
from undercroft.layers.context.policy import ContextPolicy
from undercroft.model.event import (
    AnyEvent,
    ContextCompacted,
    ContextOpened,
    PromptAssembled,
    StepEnded,
    StepStarted,
    decode_frames,
)
from undercroft.model.step import MODEL, SUMMARY
from undercroft.ports import ModelClient, Store
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore

Said = uc.Answer | str | Exception | Sequence[uc.Call]
Answering = Callable[[uc.ModelRequest], Said]

# What a script says of a request that is never answered.
HANGS = TimeoutError("it hangs")
OURS = "[undercroft"
COUNTS = Counts()
# Small enough that a few turns fill it; results are never elided, so that there is something to
# summarise.
TIGHT = ContextPolicy(
    limit_tokens=1400,
    reserved_tokens=100,
    pins=("Never promise a refund.",),
    rules=(uc.ContextRule(kind="result", action="drop", above_tokens=10_000),),
)


class InOrder:
    """Ids that sort as turns began, however quickly one follows another."""

    _turns = count(1)

    def turn(self, at: float) -> str:
        """Return a new id."""
        del at
        return f"t-{next(self._turns):012x}"

    def jitter(self) -> float:
        """Return the same number again."""
        return 0.5


def newest_user(request: uc.ModelRequest) -> str:
    """Return what the user said last, as the prompt has it."""
    said = [m.content for m in request.messages if m.role == "user"]
    return next((text for text in reversed(said) if not text.startswith(OURS)), "")


class Model:
    """A model that answers by the newest user message: its first word names a script.

    Of the script the answer counts that comes after as many as the turn was given before. A
    text that names none is said back.

    Args:
        scripts: What to say, by first word; or a function of the request.
        policy: Under which every prompt has to fit.
        usage: What is reported of a request.

    Attributes:
        requests: Every request so far, oldest first.
        wrong: What was wrong with them: whoever raises in a model only fails the step.
    """

    def __init__(
        self,
        scripts: Mapping[str, Sequence[Said] | Answering] | None = None,
        policy: ContextPolicy | None = None,
        usage: Callable[[uc.ModelRequest], uc.Usage | None] | None = None,
    ) -> None:
        self.scripts, self.policy, self.usage = scripts or {}, policy, usage
        self.requests: list[uc.ModelRequest] = []
        self.wrong: list[AssertionError] = []

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Answer by the prompt."""
        self.requests.append(request)
        if self.policy is not None:
            try:
                check_prompt(request, self.policy)
            except AssertionError as error:
                self.wrong.append(error)
        try:
            answer = named(self._answer(request), request)
        except TimeoutError:
            await asyncio.get_running_loop().create_future()
            raise
        if self.usage is not None:
            answer = msgspec.structs.replace(answer, usage=self.usage(request))
        return answer

    def _answer(self, request: uc.ModelRequest) -> uc.Answer:
        text = newest_user(request)
        script = self.scripts.get(text.split(" ", 1)[0])
        said: Said = f"You said: {text[:60]}"
        if callable(script):
            said = script(request)
        elif script is not None:
            said = script[place_of(request)]
        if isinstance(said, Exception):
            raise said
        if isinstance(said, uc.Answer):
            return said
        return uc.Answer(said) if isinstance(said, str) else uc.Answer(calls=tuple(said))

    def check(self) -> None:
        """Raise what was wrong with a prompt."""
        if self.wrong:
            raise self.wrong[0]

    @property
    def sent(self) -> list[str]:
        """Every request so far, as text: equal for equal ones."""
        return [written(request) for request in self.requests]


def named(answer: uc.Answer, request: uc.ModelRequest) -> uc.Answer:
    """Return an answer with an id for each call, as providers give them: each id once."""
    shown = [f"{m.role} {m.content} {m.call_id}" for m in request.messages]
    asked = zlib.crc32("\n".join(shown).encode("utf-8", "surrogatepass"))
    calls = [
        msgspec.structs.replace(call, id=call.id or f"c{asked:08x}-{place}")
        for place, call in enumerate(answer.calls)
    ]
    return msgspec.structs.replace(answer, calls=tuple(calls))


def place_of(request: uc.ModelRequest) -> int:
    """Return how many answers the turn was given before this request."""
    if request.place is not None:
        return request.place
    roles = [m.role for m in request.messages]
    last = max((at for at, role in enumerate(roles) if role == "user"), default=0)
    return roles[last:].count("assistant")


def written(request: uc.ModelRequest) -> str:
    """Return a request as text, one line for each message."""
    lines = [json.dumps(msgspec.to_builtins(m, enc_hook=str)) for m in request.messages]
    offered = [spec.name for spec in request.tools]
    return "\n".join([*lines, json.dumps([offered, request.breakpoints, request.place])])


class Summariser:
    """A model that writes summaries: ideal ones, or what it is told to say instead.

    Args:
        script: What it says of each new request, None for the ideal; the last one goes on.
        service: Under what name its failures are counted.
        took_s: Seconds that it takes.
    """

    def __init__(
        self,
        script: Sequence[str | Exception | None] = (None,),
        service: str = "summaries",
        took_s: float = 0.0,
    ) -> None:
        self.script, self.service, self.took_s = script, service, took_s
        self.requests: list[uc.ModelRequest] = []
        # The same is said of the same, however often it is asked.
        self._known: dict[str, int] = {}

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Write a summary."""
        self.requests.append(request)
        place = self._known.setdefault(written(request), len(self._known))
        if self.took_s:
            await asyncio.sleep(self.took_s)
        said = self.script[min(place, len(self.script) - 1)]
        if isinstance(said, Exception):
            raise said
        return uc.Answer(ideal(request.messages) if said is None else said)


# ---------------------------------------------------------------------- what every prompt keeps


def check_prompt(request: uc.ModelRequest, policy: ContextPolicy) -> None:
    """Assert what holds of every prompt that is sent under a policy."""
    messages = request.messages
    waiting: list[str | None] = []
    for message in messages:
        if message.role == "tool":
            assert message.call_id in waiting, f"an orphaned result: {message}"
            waiting.remove(message.call_id)
        elif message.role == "assistant":
            assert not waiting, f"calls without a result: {waiting}"
            waiting = [call.id for call in message.calls]
    assert not waiting, f"calls without a result: {waiting}"
    systems = [m.content for m in messages if m.role == "system"]
    assert all(systems.count(pin) == 1 for pin in policy.pins), "a pin is not there once"
    first = next((at for at, m in enumerate(messages) if m.role != "system"), len(messages))
    assert all(m.role != "system" for m in messages[first:]), "a system text stands too late"
    tokens = counted(request)
    assert tokens <= policy.capacity_tokens, f"{tokens} tokens were sent"
    places = request.breakpoints
    assert all(0 <= at < len(messages) for at in places), f"no such places: {places}"
    assert list(places) == sorted(set(places)), f"not in order: {places}"
    ids = [call.id for m in messages for call in m.calls]
    assert len(set(ids)) == len(ids), f"two calls have one id: {ids}"


def counted(request: uc.ModelRequest) -> int:
    """Return the tokens of a request, as we count."""
    messages = sum(map(COUNTS.message, request.messages))
    return COUNTS.base + COUNTS.tools(request.tools) + messages


def events(store: Any, turn_id: str, *kinds: type[AnyEvent]) -> list[Any]:
    """Return what a journal holds of a turn, of some kinds."""
    found = decode_frames(store.frames(turn_id) or [])
    return [event for event in found if isinstance(event, kinds or object)]


def check_journal(store: Any, turn_id: str) -> None:
    """Assert that each prompt of a turn is written down once, and what was done before it."""
    found = events(store, turn_id)
    asked = {e.n for e in found if isinstance(e, StepStarted) and e.name == MODEL}
    asked |= {e.n for e in found if isinstance(e, StepEnded) and e.name == MODEL}
    prompts = [e.n for e in found if isinstance(e, PromptAssembled)]
    compacted = [e.n for e in found if isinstance(e, ContextCompacted)]
    assert sorted(prompts) == sorted(asked), f"{prompts} assembled, {sorted(asked)} asked"
    assert len(set(compacted)) == len(compacted), f"compacted twice: {compacted}"
    assert set(compacted) <= set(prompts)
    assert len([e for e in found if isinstance(e, ContextOpened)]) <= 1


def prompts_of(store: Any, turn_id: str) -> list[PromptAssembled]:
    """Return what was written down of the prompts of a turn."""
    return events(store, turn_id, PromptAssembled)


def check_weights(store: Any, turn_ids: Iterable[str], requests: Iterable[uc.ModelRequest]) -> None:
    """Assert that what is written down of prompts is what they weigh that were sent."""
    noted = Counter[int]()
    for turn_id in turn_ids:
        begun = {e.n for e in events(store, turn_id, StepStarted)}
        noted.update(sum(p.sections) for p in prompts_of(store, turn_id) if p.n in begun)
    assert noted == Counter(map(counted, requests))


# ---------------------------------------------------------------------- whole sessions


@dataclass
class Talk:
    """A session that can be held again and again, each time from its beginning.

    Attributes:
        make: Makes a handler, its tools and its world.
        says: What the user says, turn by turn.
        scripts: What the model answers.
        policy: Of the runtime.
        summaries: What the summariser says; None: there is none.
        options: Of the runtime, besides.
        decide: What a person says to a turn that waits.
        usage: What the model reports.
        checked: Whether each prompt has to fit as we count it.
    """

    make: Callable[[], Any]
    says: Sequence[str]
    scripts: Mapping[str, Sequence[Said] | Answering] = field(default_factory=dict)
    policy: ContextPolicy | None = None
    summaries: Sequence[str | Exception | None] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    decide: Callable[[uc.Runtime, uc.Outcome], Awaitable[uc.Outcome]] | None = None
    usage: Callable[[uc.ModelRequest], uc.Usage | None] | None = None
    checked: bool = True


@dataclass
class Held:
    """A session that was held.

    Attributes:
        sent: Every prompt that the model got, as text.
        asked: Every request for a summary, as text.
        requests: The prompts themselves.
        outcomes: Of the turns, in their order.
        store: With the journal; closed.
    """

    sent: list[str]
    asked: list[str]
    outcomes: list[uc.Outcome]
    store: Any
    requests: list[uc.ModelRequest] = field(default_factory=list)

    @property
    def ends(self) -> list[tuple[str, Any]]:
        """How the turns ended."""
        return [(str(o.status), o.value) for o in self.outcomes]


class _Lives:
    """One session, over the lives of its processes."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.model = Model(talk.scripts, talk.policy if talk.checked else None, talk.usage)
        self.summariser = None if talk.summaries is None else Summariser(talk.summaries)
        self.target = talk.make()
        self.outcomes: list[uc.Outcome] = []

    def runtime(self, store: Store) -> uc.Runtime:
        options: dict[str, Any] = {
            "model": self.model,
            "context": self.talk.policy,
            "summariser": self.summariser,
            "targets": [self.target],
            "ids": InOrder(),
            **self.talk.options,
        }
        return uc.Runtime(store, **options)

    async def say(self, rt: uc.Runtime, text: str) -> None:
        await self.settle(rt, await rt.run(self.target, message=text, session="s-1"))

    async def settle(self, rt: uc.Runtime, outcome: uc.Outcome) -> None:
        while outcome.status == "waiting" and self.talk.decide is not None:
            outcome = await self.talk.decide(rt, outcome)
        self.outcomes.append(outcome)

    def held(self, store: Any) -> Held:
        self.model.check()
        asked = [] if self.summariser is None else list(map(written, self.summariser.requests))
        return Held(self.model.sent, asked, self.outcomes, store, self.model.requests)


async def whole(talk: Talk, store: Store | None = None) -> Held:
    """Hold a session in one runtime."""
    lives = _Lives(talk)
    store = store or MemoryStore()
    async with lives.runtime(store) as rt:
        for text in talk.says:
            await lives.say(rt, text)
        for outcome in lives.outcomes:
            check_journal(store, outcome.turn_id)
    return lives.held(store)


async def apart(talk: Talk, make: Callable[[], Store] | None = None) -> Held:
    """Hold a session with a runtime of its own for each turn."""
    lives, journal = _Lives(talk), MemoryJournal()
    make = make or (lambda: MemoryStore(journal))
    store = make()
    for text in talk.says:
        store = make()
        async with lives.runtime(store) as rt:
            await lives.say(rt, text)
            check_journal(store, lives.outcomes[-1].turn_id)
    return lives.held(store)


@dataclass
class Crash:
    """A session whose process died once.

    Attributes:
        at: The commit, and whether it was lost.
        before: Prompts that were sent before it died, and after.
        answered: How many answers, and summaries, had been written down by then.
        held: All of it.
    """

    at: str
    before: int
    answered: int
    held: Held
    asked_before: int = 0
    summarised: int = 0


async def commits_of(talk: Talk) -> int:
    """Return how many commits a session has."""
    store = CrashingStore(MemoryJournal())
    await whole(talk, store)
    return store.commits


async def _crash(talk: Talk, commit: int, when: str) -> Crash | None:
    lives, journal = _Lives(talk), MemoryJournal()
    fault = {when: commit}
    try:
        async with lives.runtime(CrashingStore(journal, **fault)) as rt:
            for text in talk.says:
                await lives.say(rt, text)
    except StoreError:
        await asyncio.sleep(0)
    else:
        return None
    before = len(lives.model.requests)
    asked = 0 if lives.summariser is None else len(lives.summariser.requests)
    store = MemoryStore(journal)
    async with lives.runtime(store) as rt:
        done, summarised = (
            sum(_answered(store, head.turn_id, name) for head in rt.turns())
            for name in (MODEL, SUMMARY)
        )
        lives.outcomes.clear()
        for found in (await rt.recover()).values():
            assert isinstance(found, uc.Outcome), f"{when} {commit}: {found}"
        heads = list(reversed(rt.turns()))
        for head in heads:
            await lives.settle(rt, await rt.resume(head.turn_id))
        for text in talk.says[len(heads) :]:
            await lives.say(rt, text)
        for outcome in lives.outcomes:
            check_journal(store, outcome.turn_id)
    return Crash(f"{when} {commit}", before, done, lives.held(store), asked, summarised)


def _answered(store: Any, turn_id: str, name: str) -> int:
    """Return how many steps of a turn were sent and came back, as far as is written down."""
    begun = {e.n for e in events(store, turn_id, StepStarted) if e.name == name}
    return len(begun & {e.n for e in events(store, turn_id, StepEnded)})


async def check_crashes(talk: Talk) -> Held:
    """Assert that a session comes out the same wherever its process dies; return it whole."""
    calm = await whole(talk)
    # To lose a commit is to keep all before it.
    await check_crash(talk, calm, 1, "crash_before")
    for commit in range(1, await commits_of(talk) + 1):
        await check_crash(talk, calm, commit, "crash_after")
    return calm


async def check_crash(talk: Talk, calm: Held, commit: int, when: str) -> None:
    """Assert that a session comes out the same if its process dies at one commit."""
    crash = await _crash(talk, commit, when)
    if crash is None:
        return
    held, at = crash.held, crash.at
    assert held.ends == calm.ends, at
    # What was asked and not written down is asked again; nothing else is.
    assert_same(held.sent[: crash.before], calm.sent[: crash.before], at)
    assert_same(held.sent[crash.before :], calm.sent[crash.answered :], f"{at}, after it")
    asked = held.asked[crash.asked_before :]
    assert_same(asked, calm.asked[crash.summarised :], f"summaries, {at}")


def assert_same(sent: Sequence[str], calm: Sequence[str], at: str = "") -> None:
    """Assert that the same prompts were sent, and show the first that differ."""
    for place, (one, other) in enumerate(zip(sent, calm, strict=False)):
        assert one == other, f"prompt {place} differs ({at}): {_differing(one, other)}"
    assert len(sent) == len(calm), f"{len(sent)} prompts, not {len(calm)} ({at})"


def _differing(one: str, other: str) -> str:
    """Return the first lines in which two prompts differ."""
    lines = zip_longest(one.split("\n"), other.split("\n"), fillvalue="(nothing)")
    return next((f"\n  {a:.200}\n  {b:.200}" for a, b in lines if a != b), "")


# ---------------------------------------------------------------------- what talks


def order_tools() -> list[Any]:
    """Return tools that look something up, at length, and change it."""
    world: dict[str, str] = {}

    @uc.tool(reads="orders/{order}")
    async def look(order: str) -> str:
        """Look an order up."""
        state = world.get(order, "open")
        return f"order {order} is {state}; " + "line of the order, " * 30

    @uc.tool(writes="orders/{order}", read_first=False)
    async def change(order: str, state: str, key: uc.IdempotencyKey) -> str:
        """Change an order."""
        world[order] = state
        return f"{order} is {state}"

    return [look, change]


def talker(tools: Sequence[Any] = (), **options: Any) -> Any:
    """Return the usual loop round a model, which says its system text anew each turn."""

    @uc.handler(tools=tools, **options)
    async def talk(turn: uc.Turn, message: str) -> str:
        turn.context.system("You look after orders.")
        turn.context.user(message)
        while True:
            answer = await turn.model()
            if not answer.calls:
                return answer.text
            await turn.calls(answer.calls)

    return talk


def look(order: str) -> uc.Call:
    """Propose to look an order up."""
    return uc.Call("look", {"order": order})


def change(order: str, state: str) -> uc.Call:
    """Propose to change an order."""
    return uc.Call("change", {"order": order, "state": state})


def client(fn: Callable[[uc.ModelRequest], Awaitable[uc.Answer]]) -> ModelClient:
    """Return a model client that is one function."""

    class _Client:
        async def complete(self, request: uc.ModelRequest) -> uc.Answer:
            return await fn(request)

    return _Client()
