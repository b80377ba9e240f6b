"""Turns that go round in circles: who notices, what the model is told, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.engine.vendor import Vendor, assistant, sweep, virtual
from undercroft.errors import LoopError, ModelError
from undercroft.model.event import StepEnded, decode_frames
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore, ScriptedModel, run_virtual

A, B = uc.Call("look", {"i": 1}), uc.Call("look", {"i": 2})


class World:
    """Tools that read and write, and how often each was called."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.value = 0

        @uc.tool(peeks="a/{i}")
        async def look(i: int) -> str:
            self.log.append(f"look {i}")
            return f"value {i}"

        @uc.tool(peeks="a/{i}", polls=True)
        async def poll(i: int) -> str:
            self.log.append(f"poll {i}")
            return "not yet"

        @uc.tool(peeks="clock")
        async def clock() -> int:
            self.log.append("clock")
            return len(self.log)

        @uc.tool(reads="x")
        async def get() -> int:
            self.log.append("get")
            return self.value

        @uc.tool(writes="x")
        async def put(value: int, key: uc.IdempotencyKey) -> int:
            assert key
            self.log.append(f"put {value}")
            self.value = value
            return value

        @uc.tool(peeks="b")
        async def fail() -> str:
            self.log.append("fail")
            raise uc.DomainError("no")

        self.tools: list[Any] = [look, poll, clock, get, put, fail]

    def assist(self) -> Any:
        """Return the usual loop."""
        return assistant(self.tools)


class Stuck:
    """A model that says the same again and again, up to a limit that no test should reach."""

    def __init__(self, *answers: str | Sequence[uc.Call], most: int = 300) -> None:
        self.answers, self.most = answers, most
        self.requests: list[uc.ModelRequest] = []

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Say the next answer; after the last, the first again."""
        self.requests.append(request)
        place = sum(m.role == "assistant" for m in request.messages)
        if place >= self.most:
            return uc.Answer("spun to the end")
        said = self.answers[place % len(self.answers)]
        return uc.Answer(said) if isinstance(said, str) else uc.Answer(calls=tuple(said))

    @property
    def told(self) -> list[str]:
        """All that it was told, result by result."""
        return [m.content for m in self.requests[-1].messages]


def refusals(trace: uc.Trace) -> list[str]:
    """Return the rules by which calls were refused."""
    return [step.refusal.rule for step in trace.steps if step.refusal is not None]


@virtual
async def test_the_same_call_for_the_fourth_time_is_refused_and_ends_the_turn() -> None:
    """Three times is enough; the model is told twice, then the turn has failed, with the reason."""
    world, model = World(), Stuck([A])
    async with uc.Runtime(model=model) as rt:
        outcome = await rt.run(world.assist())
        assert world.log == ["look 1"] * 3
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert outcome.error.type == "LoopError"
        assert "look" in outcome.error.message
        assert "3 times" in outcome.error.message
        assert refusals(rt.trace(outcome.turn_id)) == ["breakers.repeat"] * 2
        assert len(model.requests) == 6
        assert sum("breakers.repeat" in text for text in model.told) == 2
        assert "other arguments" in model.told[-1]


@virtual
async def test_a_cycle_of_two_is_refused_whole() -> None:
    """A B A B A B: neither of them is made again, and the turn does not spin on with the other."""
    world, model = World(), Stuck([A], [B])
    async with uc.Runtime(model=model, loops=uc.LoopPolicy(repeats_max=50)) as rt:
        outcome = await rt.run(world.assist())
        assert outcome.status == "failed"
        assert world.log == ["look 1", "look 2"] * 3
        assert set(refusals(rt.trace(outcome.turn_id))) == {"breakers.cycle"}
        assert len(model.requests) < 12


@pytest.mark.parametrize("period", [2, 3, 4])
def test_cycles_of_several_calls_are_found(period: int) -> None:
    """Up to the length that the policy says, whatever the results were."""

    @virtual
    async def main() -> None:
        world = World()
        model = Stuck(*[[uc.Call("look", {"i": i})] for i in range(period)])
        async with uc.Runtime(model=model, loops=uc.LoopPolicy(repeats_max=50)) as rt:
            outcome = await rt.run(world.assist())
            assert outcome.status == "failed"
            assert len(world.log) == 3 * period

    main()


@virtual
async def test_polling_is_bounded_by_budgets_alone() -> None:
    """A tool that is there to be asked again may be, as often as anybody pays for."""
    world, model = World(), Stuck([uc.Call("poll", {"i": 1})], most=40)
    async with uc.Runtime(model=model) as rt:
        outcome = await rt.run(world.assist())
        assert (outcome.status, outcome.value) == ("done", "spun to the end")
        assert world.log == ["poll 1"] * 40
        model.requests.clear()
        outcome = await rt.run(world.assist(), budget=uc.Budget(attempts=11))
        assert outcome.status == "failed"


@virtual
async def test_fifty_different_calls_are_no_loop() -> None:
    """In one batch, or one after another."""
    calls = [uc.Call("look", {"i": i}) for i in range(50)]
    scripts: list[list[Any]] = [[calls, "end"], [*[[c] for c in calls], "end"]]
    for script in scripts:
        world = World()
        async with uc.Runtime(model=ScriptedModel(script)) as rt:
            outcome = await rt.run(world.assist())
            assert (outcome.status, outcome.value) == ("done", "end")
            assert len(world.log) == 50


@virtual
async def test_reading_and_writing_different_values_is_no_loop() -> None:
    """Each write that changes something begins the counting anew."""
    world = World()
    script: list[Any] = []
    for value in range(12):
        script += [[uc.Call("get")], [uc.Call("put", {"value": value})]]
    async with uc.Runtime(model=ScriptedModel([*script, "end"])) as rt:
        outcome = await rt.run(world.assist())
        assert (outcome.status, outcome.value) == ("done", "end")
        assert world.log.count("get") == 12


@virtual
async def test_writing_the_same_again_and_again_is_a_loop() -> None:
    """The second write of one value is no progress."""
    world = World()
    model = Stuck([uc.Call("get")], [uc.Call("put", {"value": 1})])
    async with uc.Runtime(model=model) as rt:
        outcome = await rt.run(world.assist())
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert outcome.error.type == "LoopError"
        assert world.log.count("put 1") <= 4


@pytest.mark.parametrize(
    "call",
    [
        uc.Call("unheard of", {"a": 1}),
        uc.Call("look", {"i": "no number"}),
        uc.Call("look", "no JSON"),
        uc.Call("put", {"value": 3}),  # refused: it was not read
        uc.Call("fail"),
        uc.Call("clock"),  # another result each time
    ],
)
def test_a_model_that_insists_is_stopped(call: uc.Call) -> None:
    """Refused, failed or changing: the same call again and again ends the turn."""

    @virtual
    async def main() -> None:
        world, model = World(), Stuck([call])
        async with uc.Runtime(model=model) as rt:
            outcome = await rt.run(world.assist())
            assert outcome.status == "failed"
            assert outcome.error is not None
            assert outcome.error.type == "LoopError"
            assert len(model.requests) < 12

    main()


@virtual
async def test_the_same_call_many_times_in_one_batch_is_one_loop() -> None:
    """Of twenty equal calls proposed at once three are made; the turn goes on."""
    world = World()
    model = ScriptedModel([[A] * 20, "end"])
    async with uc.Runtime(model=model) as rt:
        outcome = await rt.run(world.assist())
        assert (outcome.status, outcome.value) == ("done", "end")
        assert world.log == ["look 1"] * 3
        assert len(refusals(rt.trace(outcome.turn_id))) == 17


@virtual
async def test_a_model_that_learns_nothing_new_is_told() -> None:
    """After answers that led to nothing new it reads so in its prompt, and then it ends."""
    loops = uc.LoopPolicy(stale_steps_max=3, repeats_max=1_000, cycles_max=1_000)
    world, model = World(), Stuck([A])
    async with uc.Runtime(model=model, loops=loops) as rt:
        outcome = await rt.run(world.assist())
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert "nothing new" in outcome.error.message
        notices = [text for text in model.told if text.startswith("[undercroft]")]
        assert len(notices) == 2
        assert len(model.requests) < 10


@virtual
async def test_each_branch_has_loops_of_its_own() -> None:
    """Five branches that look at the same once are no loop; one that goes round ends alone."""
    world = World()

    @uc.handler(tools=world.tools)
    async def several(turn: uc.Turn) -> list[str]:
        async def quiet(i: int) -> str:
            async with turn.branch(f"q{i}") as branch:
                results = await branch.calls([A]) + await branch.calls([A])
                return str([str(r.status) for r in results])

        async def spinning() -> str:
            async with turn.branch("spins") as branch:
                try:
                    for _ in range(20):
                        await branch.calls([A])
                except LoopError as error:
                    return type(error).__name__
            return "spun"

        return await asyncio.gather(*map(quiet, range(5)), spinning())

    async with uc.Runtime() as rt:
        outcome = await rt.run(several)
        assert outcome.status == "done"
        assert outcome.value == ["['ok', 'ok']"] * 5 + ["LoopError"]
        assert len(world.log) == 13


@pytest.mark.parametrize("asks", ["calls", "model", "both"])
def test_a_handler_that_catches_its_end_cannot_spin_on(asks: str) -> None:
    """Whoever goes on after a LoopError is ended, and the loop of the process stays free."""
    caught = 0

    @virtual
    async def main() -> None:
        nonlocal caught
        world, model = World(), Stuck([A])

        @uc.handler(tools=world.tools)
        async def stubborn(turn: uc.Turn) -> str:
            nonlocal caught
            turn.context.user("go on")
            while caught < 1_000:
                try:
                    if asks != "calls":
                        answer = await turn.model()
                        await turn.calls(answer.calls if asks == "model" else [A])
                    else:
                        await turn.calls([A])
                except (LoopError, ModelError):
                    caught += 1
            return "spun"

        async with uc.Runtime(model=model) as rt:
            outcome = await rt.run(stubborn, timeout_s=100)
            assert caught < 10
            assert outcome.status == "failed"
            assert outcome.error is not None
            assert outcome.error.type == "LoopError"
            assert asyncio.get_running_loop().time() < 5

    main()


@virtual
async def test_a_handler_may_answer_when_it_is_told_that_it_loops() -> None:
    """A LoopError that is caught, and followed by an answer, is an answer."""
    world = World()

    @uc.handler(tools=world.tools)
    async def polite(turn: uc.Turn) -> str:
        try:
            while True:
                await turn.calls([A])
        except LoopError as error:
            return f"I give up: {error.service}"

    async with uc.Runtime() as rt:
        outcome = await rt.run(polite)
        assert (outcome.status, outcome.value) == ("done", "I give up: look")


@virtual
async def test_loops_may_be_nobodys_business() -> None:
    """With `loops=None` nothing is counted."""
    world, model = World(), Stuck([A], most=60)
    async with uc.Runtime(model=model, loops=None) as rt:
        outcome = await rt.run(world.assist())
        assert (outcome.status, outcome.value) == ("done", "spun to the end")
        assert len(world.log) == 60


@virtual
async def test_a_service_that_answers_again_may_be_asked_again() -> None:
    """What failed while it was down is no reason to refuse the call once it is back."""
    vendor = Vendor([ConnectionError("x")] * 3 + ["fine"])

    @uc.tool(reads="a", service="crm")
    async def get() -> Any:
        return await vendor()

    @uc.tool(peeks="b")
    async def rest() -> str:
        await asyncio.sleep(100)
        return ""

    call, rests = [uc.Call("get")], [uc.Call("rest")]
    model = ScriptedModel([call, call, call, rests, call, "end"])
    breaker = uc.BreakerPolicy(failures_max=3, open_s=20)
    async with uc.Runtime(model=model, services=[uc.Service("crm", breaker=breaker)]) as rt:
        outcome = await rt.run(assistant([get, rest]))
        assert any("on offer again" in m.content for m in model.requests[-1].messages)
        assert model.requests[-1].messages[-1].content == "fine"
        assert (outcome.status, outcome.missing) == ("done", ())


@virtual
async def test_a_turn_that_is_ended_for_spinning_drops_no_write() -> None:
    """A write under way in another branch comes to its end, or is in doubt; never neither."""
    begun, ended = [], []

    @uc.tool(writes="y")
    async def slow() -> str:
        begun.append(1)
        await asyncio.sleep(10)
        ended.append(1)
        return "written"

    world = World()

    @uc.handler(tools=[*world.tools, slow])
    async def both(turn: uc.Turn) -> str:
        async def spins() -> None:
            await asyncio.sleep(1)
            async with turn.branch("spins") as branch:
                for _ in range(100):
                    try:
                        await branch.calls([A])
                    except LoopError:
                        continue

        async def writes() -> None:
            async with turn.branch("writes") as branch:
                await branch.calls([uc.Call("slow")])

        await asyncio.gather(spins(), writes())
        return "end"

    async with uc.Runtime() as rt:
        outcome = await rt.run(both, timeout_s=100)
        (step,) = [s for s in rt.trace(outcome.turn_id).steps if s.name == "slow"]
        assert begun
        if ended:
            assert (outcome.status, step.status) == ("failed", "ok")
        else:
            assert outcome.status == "in_doubt", (outcome, step.status)


@virtual
async def test_calls_side_by_side_on_one_line_are_the_same_after_a_crash() -> None:
    """Batches that one line asks for at once are counted alike in every life."""

    def side_by_side(world: World) -> Any:
        @uc.handler(tools=world.tools)
        async def handle(turn: uc.Turn) -> list[str]:
            said = []
            for _ in range(3):
                pairs = await asyncio.gather(turn.calls([A]), turn.calls([B]))
                said += [str(r.status) for results in pairs for r in results]
            return said

        return handle

    ends = await sweep(side_by_side, World)
    assert len(ends) > 3
    for end in ends:
        assert end.outcome.value == ends[0].outcome.value, end.commit
        assert end.outcome.error == ends[0].outcome.error, end.commit


# ---------------------------------------------------------------------- the same after a crash


class Seen:
    """A model that remembers the longest prompt that it was given."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.longest: list[Any] = []
        self.told_otherwise = False

    async def complete(self, request: uc.ModelRequest) -> uc.Answer:
        """Answer as the other model does."""
        said: list[Any] = [(m.role, m.content) for m in request.messages]
        shorter, longer = sorted((said, self.longest), key=len)
        self.told_otherwise |= longer[: len(shorter)] != shorter
        self.longest = longer
        answer: uc.Answer = await self.model.complete(request)
        return answer


def rules(journal: MemoryJournal) -> list[tuple[str, str]]:
    """Return by what calls were refused, and in which words."""
    (turn,) = journal.turns.values()
    ended = [e for e in decode_frames(turn.data()) if isinstance(e, StepEnded)]
    return sorted((e.refusal.rule, e.refusal.message) for e in ended if e.refusal is not None)


@pytest.mark.parametrize(
    "answers",
    [
        ([A],),
        ([A], [B]),
        ([A, A, A, A, A],),
        ([uc.Call("unheard of")],),
        ([uc.Call("fail")], [A]),
        ([uc.Call("get")], [uc.Call("put", {"value": 1})]),
    ],
)
@pytest.mark.parametrize("stale", [3, 8])
def test_a_loop_is_the_same_after_a_crash_at_every_commit(answers: Any, stale: int) -> None:
    """The same calls are refused, the model reads the same, and the turn ends the same."""

    @virtual
    async def main() -> None:
        model = Seen(Stuck(*answers))
        loops = uc.LoopPolicy(stale_steps_max=stale, repeats_max=3 if stale > 4 else 100)
        ends = await sweep(lambda world: world.assist(), World, model=model, loops=loops)
        first = ends[0]
        assert first.outcome.status == "failed"
        for end in ends:
            assert end.outcome.status == "failed", end.commit
            assert end.outcome.error == first.outcome.error, end.commit
            assert rules(end.journal) == rules(first.journal), end.commit
        assert not model.told_otherwise

    main()


@settings(max_examples=40, deadline=None)
@given(
    script=st.lists(
        st.lists(
            st.sampled_from(
                [A, B, uc.Call("get"), uc.Call("put", {"value": 1}), uc.Call("fail"), uc.Call("no")]
            ),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=14,
    ),
    cut=st.integers(1, 40),
)
def test_any_turn_decides_the_same_after_a_crash(script: list[list[uc.Call]], cut: int) -> None:
    """Whatever is proposed: a turn that was cut off ends as the one that was not."""

    async def main() -> None:
        loops = uc.LoopPolicy(repeats_max=2, cycles_max=2, stale_steps_max=3)
        ends = []
        for crash in (0, cut):
            world, journal = World(), MemoryJournal()
            target, model = world.assist(), Seen(ScriptedModel([*script, "end"]))
            options: dict[str, Any] = {"model": model, "loops": loops, "targets": [target]}
            outcome = None
            async with uc.Runtime(CrashingStore(journal, crash_after=crash), **options) as rt:
                try:
                    outcome = await rt.run(target)
                except uc.StoreError:
                    await asyncio.sleep(0)
            if outcome is None:
                async with uc.Runtime(MemoryStore(journal), **options) as rt:
                    await rt.recover()
                    outcome = await rt.resume(rt.turns()[0].turn_id)
            assert not model.told_otherwise
            ends.append((outcome.status, outcome.value, outcome.error, rules(journal)))
        assert ends[0] == ends[1]

    run_virtual(main())
