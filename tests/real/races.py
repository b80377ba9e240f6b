"""A task's ground-truth calls as one batch, raced in virtual time and compared with direct calls.

Keeps: what may overlap is decided here from `effects` and the matrix of the design, written
down a second time; nothing is asked of the runtime but to run a batch. Every schedule is a
function of the task and a number, so a failure can be run again.
Leaves to others: which tasks, and how many schedules (`test_races`, `bench.dojo`).

    batch = load_batch("banking", "user_task_12")
    tally = race_all([batch], runs=200)
    assert not tally.problems

What is compared. Two appends commute up to the ids and the order that arrival hands out, so
a run is held to the serial run *with those appends in the order in which they arrived* and
everything else as proposed: to the byte, results and world. That serial run in turn is held
to the one as proposed by content, ids and order of lists left out; where the appends arrived
as proposed the two are the same run. With `ordered` declarations each append counts as a
write of what it appends to, and every run is held to the proposed one to the byte.
"""

import asyncio
import copy
import functools
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from pydantic_core import to_jsonable_python

import undercroft as uc
from undercroft.engine.handler import Handler
from undercroft.engine.tool import Tool
from undercroft.storage.memory import MemoryStore
from undercroft.testing import run_virtual

from .bindings import UNREAD, bind, reaching
from .client import World
from .dojo import SUITES, Call, Digest, Json, canonical, load_suite
from .effects import EFFECTS, Effect
from .journals import anomalies

SLOW_S: Final = 1.0
SHORT_S: Final = 0.01
RANDOM_SHARE_MIN: Final = 0.25

Mode: TypeAlias = Literal["read", "append", "write"]
Key: TypeAlias = tuple[str, ...]
Pair: TypeAlias = tuple[int, int]
Effects: TypeAlias = Mapping[str, Effect]

# Held together by different calls; everything else is not. No tool of the benchmark peeks,
# and none is exclusive.
COMPATIBLE: Final = {("read", "read"), ("append", "append")}

ORDERED: Final[Effects] = {
    name: replace(effect, appends=(), writes=(*effect.writes, *effect.appends))
    for name, effect in EFFECTS.items()
}


class Claim(NamedTuple):
    """A mode on a key, whose segments may hold anything."""

    mode: Mode
    key: Key


class Latency(NamedTuple):
    """How long a call takes to have its effect, and then to say so."""

    before_s: float
    after_s: float


Schedule: TypeAlias = tuple[Latency, ...]
_Proposer: TypeAlias = Handler[[uc.Turn], Coroutine[Any, Any, None]]


class Problem(NamedTuple):
    """What a run did that no serial run does.

    Attributes:
        kind: `outcome`: a call did not run once and well. `order`: of two calls that
            conflict the later began before the earlier had ended. `result`, `world`: it is
            not that of the serial run. `content`: not even that of the calls as proposed.
        where: The task and the number of the schedule.
        what: Which calls, or what differs.
    """

    kind: Literal["outcome", "order", "result", "world", "content", "journal"]
    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Ending:
    """What comes of the calls when they are made one by one: the world and each result."""

    digest: Digest
    results: tuple[str, ...]

    @property
    def content(self) -> tuple[str, ...]:
        """The same without what depends on the order of arrival."""
        return (self.digest.content_sha256, *map(_content, self.results))


class Batch:
    """The ground-truth calls of a task, and what their claims have to do with each other.

    Attributes:
        conflicts: Pairs of calls, by place, that must run in the order of proposal.
        commuting: Pairs that append to the same resource and do not conflict.
    """

    def __init__(self, suite: str, task: str, *, ordered: bool) -> None:
        loaded = load_suite(suite)
        self.suite, self.task, self.ordered = suite, task, ordered
        self.calls = loaded.tasks[task].calls
        self._runtime = loaded.runtime
        pristine = copy.deepcopy(loaded.pristine)
        self._ready = loaded.theirs.user_tasks[task].init_environment(pristine)
        effects = ORDERED if ordered else EFFECTS
        claims = [claims_of(call, effects[call.tool]) for call in self.calls]
        pairs = list(itertools.combinations(range(len(claims)), 2))
        self.conflicts = tuple(p for p in pairs if conflict(claims[p[0]], claims[p[1]]))
        self.commuting = tuple(
            (i, j)
            for i, j in pairs
            if (i, j) not in self.conflicts
            and any(
                one.mode == other.mode == "append" and overlap(one.key, other.key)
                for one, other in itertools.product(claims[i], claims[j])
            )
        )
        self._endings: dict[tuple[int, ...], Ending] = {}

    def __str__(self) -> str:
        return f"{self.suite} {self.task}"

    def environment(self) -> Any:
        """Return a fresh environment, ready for the task."""
        return copy.deepcopy(self._ready)

    def apply(self, environment: Any, tool: str, arguments: Mapping[str, Json]) -> Json:
        """Run the real tool at this moment, and return its result as JSON.

        Raises:
            Exception: Whatever the tool raises; what it did until then stays done.
        """
        result, _ = self._runtime.run_function(environment, tool, arguments, raise_on_error=True)
        return to_jsonable_python(result)

    def ending(self, order: tuple[int, ...] | None = None) -> Ending:
        """Return what comes of the calls made one by one, as proposed if no order is given."""
        order = order or tuple(range(len(self.calls)))
        if order not in self._endings:
            environment = self.environment()
            results = {n: canonical(self.apply(environment, *self.calls[n])) for n in order}
            self._endings[order] = Ending(
                Digest.of(environment.model_dump(mode="json")),
                tuple(results[n] for n in range(len(order))),
            )
        return self._endings[order]

    def serial_order(self, applied: Sequence[int]) -> tuple[int, ...] | None:
        """Return the order of proposal but for commuting appends, which stay as they arrived.

        None if there is none, because calls that conflict were applied out of order.

        Args:
            applied: When each call was applied.
        """
        first = set(self.conflicts)
        first |= {(i, j) if applied[i] < applied[j] else (j, i) for i, j in self.commuting}
        order: list[int] = []
        left = list(range(len(self.calls)))
        while left:
            ready = next((n for n in left if not any((m, n) in first for m in left)), None)
            if ready is None:
                return None
            left.remove(ready)
            order.append(ready)
        return tuple(order)


@functools.cache
def load_batch(suite: str, task: str, *, ordered: bool = False) -> Batch:
    """Return the batch of a task; `ordered` counts each append as a write."""
    return Batch(suite, task, ordered=ordered)


def all_tasks() -> list[tuple[str, str]]:
    """Return every task of every suite that has calls."""
    return [(s, t) for s in SUITES for t, task in load_suite(s).tasks.items() if task.calls]


# Claims


def claims_of(call: Call, effect: Effect) -> list[Claim]:
    """Return the claims of a call."""
    modes: list[tuple[Mode, tuple[str, ...]]] = [
        ("read", effect.reads),
        ("append", effect.appends),
        ("write", effect.writes),
    ]
    return [
        Claim(mode, tuple(part.format(**call.arguments) for part in template.split("/")))
        for mode, templates in modes
        for template in templates
    ]


def overlap(one: Key, other: Key) -> bool:
    """Whether one key is the other, or lies in its subtree."""
    return all(a == b for a, b in zip(one, other, strict=False))


def conflict(held: Iterable[Claim], asked: Iterable[Claim]) -> bool:
    """Whether two calls with these claims must not run together."""
    return any(
        overlap(one.key, other.key) and (one.mode, other.mode) not in COMPATIBLE
        for one, other in itertools.product(held, asked)
    )


# Schedules


def schedules(batch: Batch, runs: int) -> Iterator[Schedule]:
    """Return each conflicting pair raced both ways, then random latencies; `runs` or more.

    Every pair gets its two, so that it may be more; then a quarter as many are random.
    """
    raced = 2 * len(batch.conflicts)
    for number in range(max(runs, raced + int(runs * RANDOM_SHARE_MIN))):
        # Guards nothing.
        chance = random.Random(f"{batch} {number}")  # noqa: S311
        if number < raced:
            pair = batch.conflicts[number // 2]
            yield _one_slow(len(batch.calls), pair, chance, slow=number % 2)
        else:
            yield tuple(_PROFILES[number % len(_PROFILES)](len(batch.calls), chance))


def _one_slow(calls: int, pair: Pair, chance: random.Random, slow: int) -> Schedule:
    """One of the pair takes for ever, the other no time at all, the rest next to none."""
    schedule = [Latency(*(chance.uniform(0, SHORT_S) for _ in range(2))) for _ in range(calls)]
    schedule[pair[1 - slow]] = Latency(0, 0)
    schedule[pair[slow]] = Latency(SLOW_S, 0) if chance.random() < 0.5 else Latency(0, SLOW_S)
    return tuple(schedule)


def _even(calls: int, chance: random.Random) -> Iterator[Latency]:
    for _ in range(calls):
        yield Latency(chance.uniform(0, SHORT_S), chance.uniform(0, SHORT_S))


def _ties(calls: int, chance: random.Random) -> Iterator[Latency]:
    """Many of them end at the same moment."""
    for _ in range(calls):
        yield Latency(chance.randrange(3) * SHORT_S, chance.randrange(2) * SHORT_S)


def _long_tailed(calls: int, chance: random.Random) -> Iterator[Latency]:
    for _ in range(calls):
        yield Latency(min(SLOW_S, SHORT_S * chance.paretovariate(0.7)), chance.uniform(0, SHORT_S))


def _backwards(calls: int, chance: random.Random) -> Iterator[Latency]:
    """The later a call was proposed, the sooner it is done."""
    for place in range(calls):
        yield Latency((calls - place) * SHORT_S, chance.uniform(0, SHORT_S))


def _slow_to_answer(calls: int, chance: random.Random) -> Iterator[Latency]:
    """What is done is done at once, and known of much later."""
    for _ in range(calls):
        yield Latency(0, chance.uniform(0, SLOW_S))


_PROFILES: Final = (_backwards, _even, _long_tailed, _ties, _slow_to_answer)


# Runs


@dataclass(slots=True)
class Span:
    """When a call began, had its effect and ended, in ticks of a counter of such moments."""

    step: str | None
    begun: int
    applied: int = -1
    ended: int = -1


class Race:
    """One run of a batch: the world that its tools reach, with a latency for each call."""

    def __init__(self, batch: Batch, schedule: Schedule) -> None:
        self.batch, self.schedule = batch, schedule
        self.environment = batch.environment()
        self.results: list[uc.Result] = []
        self.took_s = 0.0
        self.spans: list[Span] = []
        self._not_begun = list(range(len(batch.calls)))
        self._ticks = itertools.count()

    async def call(
        self, tool: str, arguments: dict[str, Json], *, key: str | None, step: str | None
    ) -> Json:
        """Do what a world does: wait, apply the tool, wait, answer."""
        assert key is None, "the tools are bound bare"
        # Calls that are the same in every word get their latencies in the order of beginning.
        alike = [n for n in self._not_begun if self.batch.calls[n] == (tool, arguments)]
        assert alike, f"{tool} was not proposed with {arguments}, or not as often"
        number = alike[0]
        self._not_begun.remove(number)
        latency = self.schedule[number]
        span = Span(step, next(self._ticks))
        self.spans.append(span)
        try:
            await asyncio.sleep(latency.before_s)
            span.applied = next(self._ticks)
            value = self.batch.apply(self.environment, tool, arguments)
            await asyncio.sleep(latency.after_s)
            return value
        finally:
            span.ended = next(self._ticks)

    async def run(self, runtime: uc.Runtime, handler: _Proposer) -> None:
        """Have a turn propose the batch."""
        token = _RACE.set(self)
        try:
            with reaching(cast("World", self)):
                outcome = await runtime.run(handler)
        finally:
            _RACE.reset(token)
        assert outcome.status == "done", outcome

    def by_call(self) -> list[Span] | None:
        """Return the span of each call, in order of proposal; None if not each ran once."""
        spans = {span.step: span for span in self.spans}
        steps = [result.step_id for result in self.results]
        if sorted(map(str, steps)) != sorted(str(span.step) for span in self.spans):
            return None
        return [spans[step] for step in steps]


_RACE: ContextVar[Race] = ContextVar("race")


async def _propose(turn: uc.Turn) -> None:
    race = _RACE.get()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    race.results = await turn.calls([uc.Call(*call) for call in race.batch.calls])
    race.took_s = loop.time() - began_s


@functools.cache
def make_proposer(suite: str, *, ordered: bool = False, liar: str = "") -> _Proposer:
    """Return a handler that proposes the batch of the race that it runs in.

    Args:
        suite: Whose tools it offers.
        ordered: Whether they declare each append as a write.
        liar: The tool that says of all that it changes that it peeks there.
    """
    tools = [
        _declared(tool, ordered=ordered, lies=tool.name == liar) for tool in bind(suite, "bare")
    ]
    return uc.handler(tools=tools)(_propose)


def _declared(tool: Tool[..., Any], *, ordered: bool, lies: bool) -> Tool[..., Any]:
    effect = ORDERED[tool.name] if ordered else EFFECTS[tool.name]
    if not lies and effect == EFFECTS[tool.name]:
        return tool
    body: Callable[..., Coroutine[Any, Any, Json]] = tool.fn
    return uc.tool(
        peeks=(*effect.appends, *effect.writes) if lies else (),
        reads=effect.reads,
        appends=() if lies else effect.appends,
        writes=() if lies else effect.writes,
        service=tool.service,
        # Who may append without having read may do so when it is called a write.
        read_first=tool.name not in UNREAD and not EFFECTS[tool.name].appends,
    )(body)


# Verdicts


@dataclass(slots=True)
class Tally:
    """What many runs came to.

    Attributes:
        runs: How many there were.
        rearrived: Those in which commuting appends arrived otherwise than proposed.
        overlapped: Pairs of calls that were under way together in some run, by task.
        renamed: By tool: results that are those of the proposed order up to ids and order only.
    """

    runs: int = 0
    rearrived: int = 0
    problems: list[Problem] = field(default_factory=list)
    overlapped: dict[str, set[Pair]] = field(default_factory=dict)
    renamed: Counter[str] = field(default_factory=Counter)

    def judge(self, race: Race, number: int) -> None:
        """Add one run, and whatever is wrong with it."""
        where = f"{race.batch} schedule {number}"
        self.runs += 1
        for call, result in zip(race.batch.calls, race.results, strict=True):
            if result.status != "ok":
                what = f"{call.tool}: {result.refusal or result.error}"
                self.problems.append(Problem("outcome", where, what))
        spans = race.by_call()
        if spans is None:
            self.problems.append(Problem("outcome", where, "a call did not run, or ran twice"))
            return
        self._judge_order(race.batch, spans, where)
        self._judge_ending(race, spans, where)

    def _judge_order(self, batch: Batch, spans: Sequence[Span], where: str) -> None:
        together = self.overlapped.setdefault(str(batch), set())
        for i, j in itertools.combinations(range(len(spans)), 2):
            if spans[i].begun < spans[j].ended and spans[j].begun < spans[i].ended:
                together.add((i, j))
        for i, j in batch.conflicts:
            if spans[j].begun < spans[i].ended:
                what = f"{i} {batch.calls[i].tool}, {j} {batch.calls[j].tool}"
                self.problems.append(Problem("order", where, what))

    def _judge_ending(self, race: Race, spans: Sequence[Span], where: str) -> None:
        batch = race.batch
        order = batch.serial_order([span.applied for span in spans])
        serial, proposed = batch.ending(order), batch.ending()
        for call, result, expected in zip(batch.calls, race.results, serial.results, strict=True):
            if result.status == "ok" and canonical(result.value) != expected:
                self.problems.append(Problem("result", where, call.tool))
        if canonical(race.environment.model_dump(mode="json")) != serial.digest.canonical:
            self.problems.append(Problem("world", where, "it is not that of the serial run"))
        if serial is proposed:
            return
        self.rearrived += 1
        if serial.content != proposed.content:
            self.problems.append(Problem("content", where, f"{order} is not as proposed"))
        self.renamed.update(
            call.tool
            for call, now, then in zip(batch.calls, serial.results, proposed.results, strict=True)
            if now != then
        )


def race_all(batches: Iterable[Batch], runs: int, *, liar: str = "") -> Tally:
    """Race each batch `runs` times or more, in virtual time; `liar` as for `make_proposer`."""
    tally = Tally()

    async def main() -> None:
        for batch in batches:
            handler = make_proposer(batch.suite, ordered=batch.ordered, liar=liar)
            # A journal in memory for each, which is gone with it.
            store = MemoryStore()
            async with uc.Runtime(store) as runtime:
                for number, latencies in enumerate(schedules(batch, runs)):
                    race = Race(batch, latencies)
                    await race.run(runtime, handler)
                    tally.judge(race, number)
            for anomaly in anomalies(store):
                tally.problems.append(Problem("journal", str(batch), f"{anomaly}"))

    run_virtual(main())
    return tally


def measure(batch: Batch, latency_s: float) -> float:
    """Return the virtual seconds that a batch takes if each call takes `latency_s`."""

    async def main() -> float:
        async with uc.Runtime() as runtime:
            race = Race(batch, (Latency(latency_s / 2, latency_s / 2),) * len(batch.calls))
            await race.run(runtime, make_proposer(batch.suite, ordered=batch.ordered))
            return race.took_s

    return run_virtual(main())


def rounds_naive(batch: Batch) -> int:
    """Return how many rounds it takes if consecutive reads run together, all else alone."""
    reads = [EFFECTS[call.tool].kind == "read" for call in batch.calls]
    return sum(not (now and before) for before, now in zip([False, *reads], reads, strict=False))


def rounds_least(batch: Batch) -> int:
    """Return the length of the longest chain of conflicts: what no schedule can beat."""
    depth: list[int] = []
    for n in range(len(batch.calls)):
        depth.append(1 + max((depth[m] for m in range(n) if (m, n) in batch.conflicts), default=0))
    return max(depth)


def _content(text: str) -> str:
    return Digest.of(json.loads(text)).content_sha256
