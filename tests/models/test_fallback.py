"""Where one model gives no answer another is asked, as a step that the journal tells."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.models.talking import FLAVOURS, Flavour
from tests.models.turns import ASKS, HEARD, POLICY, assist, keeper, prompts, quick, run
from tests.provider import Answer, Call, Cut, Hang, Provider, Reply, Request, Status
from undercroft.doctor.importers.journal import case_of
from undercroft.engine.traces import trace_of
from undercroft.errors import StoreError
from undercroft.model.event import AttemptSpent, StepEnded, StepStarted, decode_frames
from undercroft.model.step import ANOTHER, MODEL
from undercroft.queries import read_events
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore

CHAT, MESSAGES = FLAVOURS[0], FLAVOURS[-2]
STREAMED = FLAVOURS[1], FLAVOURS[-1]
SERVICES = quick("openai/gpt-a", "anthropic/claude-b")


async def both(
    stack: AsyncExitStack, url: str, flavours: tuple[Flavour, Flavour] = (CHAT, MESSAGES)
) -> list[Any]:
    """Return two models of two providers, at one address."""
    names = ["claude-b" if flavour.anthropic else "gpt-a" for flavour in flavours]
    return [
        await stack.enter_async_context(flavour.model(url, name))
        for flavour, name in zip(flavours, names, strict=True)
    ]


def only_second(request: Request) -> Reply:
    """Fail as the first provider, and answer as the second."""
    return Status(status=500) if request.dialect == "chat" else keeper(request)


def once(request: Request) -> Reply:
    """Answer at first; then only the second provider does, and then the first again."""
    if request.dialect == "chat" and len(request.results) == 3:
        return Status(status=503)
    return keeper(request)


def steps(path: Path, turn_id: str) -> list[tuple[str, str, str]]:
    """Return the steps that asked a model: name, service, and how they ended."""
    events = read_events(str(path), turn_id)
    ended = {e.n: str(e.status) for e in events if isinstance(e, StepEnded)}
    return [
        (e.name, e.service, ended[e.n])
        for e in events
        if isinstance(e, StepStarted) and e.kind == MODEL and e.attempt == 1
    ]


@pytest.mark.parametrize("policy", [POLICY, None], ids=["window", "no window"])
async def test_another_model_answers_where_the_first_fails(
    policy: uc.ContextPolicy | None, tmp_path: Path
) -> None:
    """Each prompt is answered by the second; the turn says that it was without the first."""
    path = tmp_path / "undercroft.db"
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(Provider(only_second))
        models = await both(stack, provider.url)
        outcome = await run(path, models, services=SERVICES, context=policy)
        assert outcome.value == 'Done: tea is here, {"tea":2}.'
        assert (outcome.status, outcome.missing) == ("degraded", (MODEL,))
        asked = steps(path, outcome.turn_id)
        assert asked[:2] == [
            (MODEL, "openai/gpt-a", "failed"),
            (ANOTHER, "anthropic/claude-b", "ok"),
        ]
        assert sum(name == ANOTHER for name, _, _ in asked) == ASKS
        told = [prompt for prompt in prompts(path, outcome.turn_id) if prompt.n]
        assert [p.model for p in told[:2]] == ["gpt-a", "claude-b"]
        assert told[0].messages == told[1].messages
        assert told[0].tools == told[1].tools
        assert all(prompt.verified and prompt.same_body for prompt in told)
        bodies = [prompt.body for prompt in told]
        assert all(json.loads(r.raw) in bodies for r in provider.requests)
    found = await uc.replay(path, outcome.turn_id, target=assist)
    assert found.same, found.divergence
    assert found.outcome is not None
    assert found.outcome.missing == (MODEL,)


@pytest.mark.parametrize("flavours", [(CHAT, MESSAGES), (MESSAGES, CHAT)], ids=["a", "b"])
async def test_the_history_is_told_to_either_in_its_own_way(
    flavours: tuple[Flavour, Flavour], tmp_path: Path
) -> None:
    """Calls that one proposed, under ids of its own, are history for the other."""

    def script(request: Request) -> Reply:
        first = request.dialect == ("messages" if flavours[0].anthropic else "chat")
        results = request.results
        if first and len(results) == 1:
            return Status(status=529)
        if not results:
            return Answer(calls=[Call("look", {"key": "tea"}, "functions.look:0 ß")])
        if len(results) == 1:
            return Answer(calls=[Call("look", {"key": "jam"}, "toolu_x")])
        return Answer(text="; ".join(result.text for result in results))

    path = tmp_path / "undercroft.db"
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(Provider(script))
        models = await both(stack, provider.url, flavours)
        outcome = await run(path, models, services=SERVICES)
        assert outcome.value == "tea is here; jam is here"
        check = prompts(path, outcome.turn_id)
        assert all(prompt.same_body for prompt in check)
        # The second turn of the session goes on from what both of them said.
        again = await run(path, models, "and?", services=SERVICES)
        assert again.status == "done"
        shown = [(one.call.name, one.text) for one in provider.requests[-1].results if one.call]
        assert shown == [("look", "tea is here"), ("look", "jam is here")]


async def test_the_first_is_asked_again_the_next_time(tmp_path: Path) -> None:
    """One answer of another model changes nothing for the next prompt."""
    path = tmp_path / "undercroft.db"
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(Provider(once))
        outcome = await run(path, await both(stack, provider.url), services=SERVICES)
    assert [row[0] for row in steps(path, outcome.turn_id)] == [MODEL, MODEL, ANOTHER, MODEL]
    assert outcome.status == "degraded"


async def test_each_model_has_its_breaker(tmp_path: Path) -> None:
    """Once the first is given up it is not called; the second's breaker knows nothing of it."""
    path = tmp_path / "undercroft.db"
    strict = uc.BreakerPolicy(calls_min=2, open_s=1_000)
    services = [
        uc.Service("openai/gpt-a", breaker=strict, retry=uc.Retry(attempts=2, wait_s=0.001))
    ]
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(Provider(only_second))
        models = await both(stack, provider.url)
        outcome = await run(path, models, services=[*services, SERVICES[1]])
        assert outcome.status == "degraded"
        chats = sum(request.dialect == "chat" for request in provider.requests)
        assert chats < ASKS * 2
        events = read_events(str(path), outcome.turn_id)
        refused = [e.refusal.rule for e in events if isinstance(e, StepEnded) and e.refusal]
        assert "breakers.open" in refused
        # What was never sent can be told all the same, and what was sent by the other too.
        assert all(prompt.same_body for prompt in prompts(path, outcome.turn_id))
        again = await run(path, models, "and?", services=[*services, SERVICES[1]])
        assert again.status == "degraded"
        # Its window was read back from the journal, and is what the first turn left.
        assert all(p.verified and p.same_body for p in prompts(path, again.turn_id))
    for turn in (outcome, again):
        found = await uc.replay(path, turn.turn_id, target=assist)
        assert found.same, found.divergence


@pytest.mark.parametrize(
    ("reply", "asks"),
    [
        (Status(status=500), 2),
        (Status(status=402), 2),
        (Status(status=400), 1),
        (Status(status=401), 1),
        (Answer(refusal="No."), 1),
    ],
    ids=["500", "402", "400", "401", "refusal"],
)
async def test_a_no_is_an_answer(reply: Reply, asks: int) -> None:
    """A request that is wrong, or refused, would be so for another model too."""
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(
            Provider(lambda r: reply if r.dialect == "chat" else Answer(text="Fine."))
        )
        services = [uc.Service("openai/gpt-a", retry=uc.Retry(attempts=1))]
        outcome = await run(None, await both(stack, provider.url), services=services)
        assert len(provider.requests) == asks
    assert outcome.status == ("degraded" if asks == 2 else outcome.status)


async def test_where_none_answers_the_turn_says_of_all_why(tmp_path: Path) -> None:
    """The failure names what each came to."""
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(
            Provider(lambda r: Status(status=500 if r.dialect == "chat" else 529))
        )
        outcome = await run(None, await both(stack, provider.url), services=SERVICES)
    assert outcome.status == "failed"
    assert "another model gave no answer either" in str(outcome.error)


async def test_an_answer_that_was_shown_half_is_not_another_model_s_to_give() -> None:
    """Whoever reads along would read two beginnings."""
    HEARD.clear()
    cut = Cut(answer=Answer(text="Half an answer, or so it seems"), events=4)
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(Provider(lambda _: cut))
        models = await both(stack, provider.url, STREAMED)
        outcome = await run(None, models, services=SERVICES)
        assert len(provider.requests) == 1
    assert outcome.status == "failed"


async def test_a_broken_stream_that_nobody_saw_is(tmp_path: Path) -> None:
    """The second model's text is the only one that is heard."""
    HEARD.clear()
    cut = Cut(answer=Answer(calls=[Call("look", {"key": "x" * 90})]), events=4)
    path = tmp_path / "undercroft.db"
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(
            Provider(lambda r: cut if r.dialect == "chat" else Answer(text="Fine."))
        )
        outcome = await run(path, await both(stack, provider.url, STREAMED), services=SERVICES)
    assert (outcome.value, "".join(HEARD)) == ("Fine.", "Fine.")


async def test_what_an_answer_cost_is_of_the_model_that_gave_it(tmp_path: Path) -> None:
    """Budgets and prices go by the model that answered."""
    path = tmp_path / "undercroft.db"
    prices = {"openai/gpt-a": uc.Price(1_000, 1_000), "anthropic/claude-b": uc.Price(1, 1)}
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(
            Provider(lambda r: Status(status=500) if r.dialect == "chat" else Answer(text="Fine."))
        )
        models = await both(stack, provider.url)
        budgets = uc.Budgets(turn=uc.Budget(usd=100), answer_tokens=200)
        outcome = await run(path, models, services=SERVICES, prices=prices, budgets=budgets)
        assert outcome.value == "Fine."
        sent = provider.requests[-1]
    spent = [e for e in read_events(str(path), outcome.turn_id) if isinstance(e, AttemptSpent)]
    paid = {event.service: event.usd_nano or 0 for event in spent if event.usd_nano}
    assert set(paid) == {"anthropic/claude-b"}
    assert 0 < paid["anthropic/claude-b"] < len(sent.raw) * 1_000
    assert all(prompt.same_body for prompt in prompts(path, outcome.turn_id))


async def test_the_doctor_reads_what_another_model_said(tmp_path: Path) -> None:
    """Its prompt is that of the step before, and its answer is part of the conversation."""
    path = tmp_path / "undercroft.db"
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(Provider(only_second))
        outcome = await run(path, await both(stack, provider.url), services=SERVICES)
    events = read_events(str(path), outcome.turn_id)
    trace = trace_of(events)
    assert trace is not None
    read = case_of(trace, events)
    said = [text.text for text in read.texts if text.role == "assistant"]
    assert said == ["Let me see.", outcome.value]
    asks = [ask for ask in read.asks if ask.model == "anthropic/claude-b"]
    assert len(asks) == ASKS
    assert all(ask.prompt for ask in asks)


async def test_killed_anywhere_it_goes_on_where_it_was() -> None:
    """What was answered, by whichever model, is not asked again; what failed for good neither."""
    counting = CrashingStore(MemoryJournal())
    services = [uc.Service("openai/gpt-a", retry=uc.Retry(attempts=1), breaker=None), SERVICES[1]]
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(Provider(only_second, requests_max=5_000))
        models = await both(stack, provider.url)
        whole = await run(counting, models, services=services)
        for crash_after in range(1, counting.commits):
            journal = MemoryJournal()
            with suppress(StoreError):
                await run(
                    CrashingStore(journal, crash_after=crash_after), models, services=services
                )
            store = MemoryStore(journal)
            (head,) = store.heads()
            events = decode_frames(store.frames(head.turn_id) or [])
            ends = {e.n for e in events if isinstance(e, StepEnded)}
            over = {e.n for e in events if isinstance(e, StepStarted) and e.kind == MODEL} & ends
            before = len(provider.requests)
            async with uc.Runtime(
                MemoryStore(journal), model=models, context=POLICY, services=services
            ) as rt:
                (outcome,) = (await rt.recover()).values()
            assert isinstance(outcome, uc.Outcome), outcome
            assert (outcome.value, outcome.missing) == (whole.value, whole.missing)
            assert len(provider.requests) - before == 2 * ASKS - len(over)


async def test_a_turn_without_time_asks_nobody_else() -> None:
    """Another model would have no more time than the first."""
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(Provider(lambda _: Hang()))
        models = await both(stack, provider.url)
        async with uc.Runtime(model=models) as rt:
            outcome = await rt.run(assist, message="tea?", timeout_s=0.3)
        provider.release()
        assert len(provider.requests) == 1
    assert outcome.status == "failed"


def test_models_need_a_breaker_each() -> None:
    """Two of one service, an empty list, and what is no model are refused where they are given."""

    class Own:
        service = "mine"

        async def complete(self, request: uc.ModelRequest) -> uc.Answer:
            raise NotImplementedError

    for wrong in ([Own(), Own()], [], ["gpt"], "gpt", [Own(), None]):
        with pytest.raises(uc.DeclarationError):
            uc.Runtime(model=wrong)  # type: ignore[arg-type]


async def test_a_handler_s_own_models_may_be_several() -> None:
    """Clients without a service of their own get one each."""
    failing = uc.testing.ScriptedModel([ConnectionError("gone")] * 5)
    fine = uc.testing.ScriptedModel(["Fine."])

    @uc.handler(model=[lambda: failing, fine])
    async def tell(turn: uc.Turn) -> str:
        turn.context.user("hello")
        answer = await turn.model()
        return f"{answer.text} {sorted(turn.missing)}"

    services = quick(MODEL)
    async with uc.Runtime(services=services) as rt:
        outcome = await rt.run(tell)
    assert (outcome.status, outcome.value) == ("degraded", "Fine. ['model']")
