"""A turn is the same turn whichever model's API it speaks, and its journal tells what was sent."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import undercroft as uc
from tests.models.talking import FLAVOURS, KEY, STREAMED, Flavour
from tests.models.test_streams import SEALED, THOUGHT, raw, thinking_events
from tests.models.turns import (
    ASKS,
    HEARD,
    POLICY,
    assist,
    check_bodies,
    keeper,
    keys,
    prompts,
    quick,
    run,
    story,
)
from tests.provider import Answer, Call, Close, Cut, ErrorEvent, Garbage, Provider, Reply, Status
from undercroft.adapters.prices import GenaiPrices
from undercroft.errors import StoreError
from undercroft.model.event import (
    AttemptReserved,
    AttemptSpent,
    StepEnded,
    StepStarted,
    decode_frames,
)
from undercroft.queries import read_events
from undercroft.storage.memory import MemoryJournal, MemoryStore
from undercroft.testing import CrashingStore

every = pytest.mark.parametrize("flavour", FLAVOURS, ids=str)
streamed = pytest.mark.parametrize("flavour", STREAMED, ids=str)


def holds(folder: Path, *texts: str) -> bool:
    """Whether any file of a folder holds any of some texts."""
    found = [file.read_bytes() for file in folder.iterdir()]
    assert found
    return any(text.encode() in data for text in texts for data in found)


async def test_a_turn_is_the_same_with_every_api(tmp_path: Path) -> None:
    """The same handler leaves the same journal, but for ids, usage and times."""
    told: list[Any] = []
    for flavour in FLAVOURS:
        path = tmp_path / f"{flavour}.db"
        with Provider(keeper) as provider:
            async with flavour.model(provider.url) as model:
                outcome = await run(path, model)
            assert len(provider.requests) == ASKS
        assert outcome.status == "done"
        assert outcome.value == 'Done: tea is here, {"tea":2}.'
        told.append(story(path, outcome.turn_id))
    assert all(one == told[0] for one in told)
    rules = [row[4] for row in told[0] if row[0] == "ended" and row[4]]
    assert rules == ["sequencing.arguments_not_json", "sequencing.unknown_tool"]


@every
async def test_the_journal_tells_the_body_as_it_went_over_the_wire(
    flavour: Flavour, tmp_path: Path
) -> None:
    """Each request is rebuilt from the journal alone, and has the digest of what was sent."""
    path = tmp_path / "undercroft.db"
    with Provider(keeper) as provider:
        settings: dict[str, Any] = {"temperature": 0.5, "output_tokens_max": 300, "user": "u-1"}
        async with flavour.model(provider.url, **settings) as model:
            outcome = await run(path, model)
            check_bodies(path, outcome, provider)
            provider.requests.clear()
            outcome = await run(path, model, "and now?")
            check_bodies(path, outcome, provider)


@every
async def test_a_budget_s_limit_is_in_the_body_that_the_journal_tells(
    flavour: Flavour, tmp_path: Path
) -> None:
    """What a budget leaves for the answer is sent, and told, as it was sent."""
    path = tmp_path / "undercroft.db"
    with Provider(keeper) as provider:
        async with flavour.model(provider.url) as model:
            budgets = uc.Budgets(turn=uc.Budget(output_tokens=4_000), answer_tokens=700)
            outcome = await run(path, model, budgets=budgets)
        assert outcome.status == "done"
        check_bodies(path, outcome, provider)
        names = ("max_completion_tokens", "max_output_tokens", "max_tokens")
        limits = [next(r.body[n] for n in names if n in r.body) for r in provider.requests]
        assert all(0 < limit <= 4_000 for limit in limits)


@every
async def test_a_secret_is_in_what_is_sent_and_in_no_journal(
    flavour: Flavour, tmp_path: Path
) -> None:
    """The body is told with marks for secrets, and is known to be what was sent but for them."""
    path, secret = tmp_path / "undercroft.db", "sk-live-Zq81mVv0pTt63RbWxY27"
    with Provider([Answer(text=f"It is {secret}."), Answer(text="Fine.")]) as provider:
        async with flavour.model(provider.url, user=secret) as model:
            redaction = uc.Redaction(values=(secret,))
            outcome = await run(path, model, f"keep {secret}", redaction=redaction)
        assert secret in provider.requests[0].raw.decode()
    assert not holds(tmp_path, secret, KEY)
    (prompt,) = prompts(path, outcome.turn_id)
    assert prompt.same_body is True
    assert "[redacted:" in str(prompt.body)


@every
@pytest.mark.parametrize(
    "fault",
    [Status(status=429, headers={"retry-after": "0"}), Status(status=500), Close()],
    ids=["429", "500", "closed"],
)
async def test_what_fails_for_a_moment_is_asked_again_and_counted_once(
    flavour: Flavour, fault: Reply, tmp_path: Path
) -> None:
    """The runtime retries, not the library: each attempt is one request."""
    path = tmp_path / "undercroft.db"
    with Provider([fault, fault, Answer(text="Fine.")]) as provider:
        async with flavour.model(provider.url) as model:
            outcome = await run(path, model, services=quick(*keys(flavour, "m-1")))
        assert (outcome.status, outcome.value) == ("done", "Fine.")
        assert len(provider.requests) == 3
    spent = [e for e in read_events(str(path), outcome.turn_id) if isinstance(e, AttemptSpent)]
    assert sum(event.attempts for event in spent) <= 3


@streamed
@pytest.mark.parametrize("shown", [False, True], ids=["unshown", "shown"])
async def test_a_stream_that_broke_is_asked_again_only_if_nobody_saw_it(
    flavour: Flavour, *, shown: bool, tmp_path: Path
) -> None:
    """Half an answer that was shown is a failure of the turn; one that was not is no matter."""
    call = Answer(calls=[Call("look", {"key": "x" * 200})])
    cut = Cut(answer=Answer(text="Half an answer, or so it seems"), events=5)
    broken = cut if shown else Cut(answer=call, events=5)
    HEARD.clear()
    replies: list[Reply] = [broken] if shown else [broken, Answer(text="Fine.")]
    with Provider(replies) as provider:
        async with flavour.model(provider.url) as model:
            outcome = await run(None, model, services=quick(*keys(flavour, "m-1")))
        assert len(provider.requests) == len(replies)
    if shown:
        assert outcome.status == "failed"
        assert "shown already" in str(outcome.error)
        assert "".join(HEARD)
        assert "Half an answer".startswith("".join(HEARD)[:14])
    else:
        assert (outcome.value, "".join(HEARD)) == ("Fine.", "Fine.")


@every
async def test_a_listener_hears_what_is_new_and_nothing_of_a_journal(flavour: Flavour) -> None:
    """A turn that is resumed tells only what its model says now."""
    journal = MemoryJournal()
    HEARD.clear()
    with Provider(keeper) as provider:
        async with flavour.model(provider.url) as model:
            crashed = CrashingStore(journal, crash_after=3)
            with pytest.raises(StoreError):
                await run(crashed, model)
            assert "".join(HEARD) == "Let me see."
            async with uc.Runtime(MemoryStore(journal), model=model, context=POLICY) as rt:
                (outcome,) = (await rt.recover()).values()
    assert isinstance(outcome, uc.Outcome)
    assert "".join(HEARD) == f"Let me see.{outcome.value}"


@every
async def test_a_listener_that_fails_breaks_no_answer(flavour: Flavour) -> None:
    """What a listener raises is its own; the answer comes to its end."""

    def broken(text: str) -> None:
        raise ValueError(text)

    @uc.handler()
    async def tell(turn: uc.Turn) -> str:
        return (await turn.model(on_text=broken)).text

    with Provider([Answer(text="A long answer, piece by piece.")]) as provider:
        async with flavour.model(provider.url) as model, uc.Runtime(model=model) as rt:
            outcome = await rt.run(tell)
    assert outcome.value == "A long answer, piece by piece."


def answered(journal: MemoryJournal) -> int:
    """Return how many answers of a model a journal holds."""
    store = MemoryStore(journal)
    (head,) = store.heads()
    events = decode_frames(store.frames(head.turn_id) or [])
    begun = {e.n for e in events if isinstance(e, StepStarted) and e.kind == "model"}
    return sum(isinstance(e, StepEnded) and e.n in begun and e.status == "ok" for e in events)


@every
async def test_what_was_answered_is_never_asked_again(flavour: Flavour) -> None:
    """Killed at each of its commits and resumed, a turn asks only for what the journal lacks."""
    counting = CrashingStore(MemoryJournal())
    with Provider(keeper) as provider:
        async with flavour.model(provider.url) as model:
            whole = await run(counting, model)
            for crash_after in range(1, counting.commits):
                journal = MemoryJournal()
                with suppress(StoreError):
                    await run(CrashingStore(journal, crash_after=crash_after), model)
                known, before = answered(journal), len(provider.requests)
                async with uc.Runtime(MemoryStore(journal), model=model, context=POLICY) as rt:
                    (outcome,) = (await rt.recover()).values() or [None]
                assert isinstance(outcome, uc.Outcome)
                assert outcome.value == whole.value
                assert len(provider.requests) - before == ASKS - known


async def test_thoughts_go_back_in_the_next_prompt_and_the_next_turn(tmp_path: Path) -> None:
    """What only the provider understands is in the journal, and in each body that it tells."""
    path, flavour = tmp_path / "undercroft.db", STREAMED[-1]
    said: list[Reply] = [raw(thinking_events()), Answer(text="Fine."), Answer(text="Fine, too.")]
    with Provider(said) as provider:
        async with flavour.model(provider.url, thinking={"type": "adaptive"}) as model:
            outcome = await run(path, model)
            again = await run(path, model, "and now?")
        assert (outcome.value, again.value) == ("Fine.", "Fine, too.")
        for request in provider.requests[1:]:
            assert request.body["messages"][1]["content"][:2] == [THOUGHT, SEALED]
        told = prompts(path, outcome.turn_id) + prompts(path, again.turn_id)
        for prompt, request in zip(told, provider.requests, strict=True):
            assert prompt.verified
            assert prompt.same_body
            assert prompt.body == request.body
    found = await uc.replay(path, again.turn_id, target=assist)
    assert found.same, found.divergence


@every
async def test_a_turn_replays_without_its_provider(flavour: Flavour, tmp_path: Path) -> None:
    """The recorded turn says what it said, with nobody asked."""
    path = tmp_path / "undercroft.db"
    with Provider(keeper) as provider:
        async with flavour.model(provider.url) as model:
            outcome = await run(path, model)
    found = await uc.replay(path, outcome.turn_id, target=assist)
    assert (found.same, found.prompts) == (True, ASKS)


@pytest.mark.parametrize("name", ["gpt-4o-mini", "claude-sonnet-4-5"])
async def test_prices_are_found_by_what_a_model_says_of_itself(name: str, tmp_path: Path) -> None:
    """The kept table and one's own know the models by name and provider."""
    flavour = FLAVOURS[-2] if name.startswith("claude") else FLAVOURS[0]
    provider_name = "anthropic" if flavour.anthropic else "openai"
    own = {f"{provider_name}/{name}": uc.Price(1, 2)}
    for at, prices in enumerate((GenaiPrices(), own)):
        path = tmp_path / f"{at}.db"
        with Provider([Answer(text="Fine.")]) as provider:
            async with flavour.model(provider.url, name) as model:
                budgets = uc.Budgets(turn=uc.Budget(usd=1))
                outcome = await run(path, model, prices=prices, budgets=budgets)
        assert outcome.status == "done"
        (spent,) = [
            e for e in read_events(str(path), outcome.turn_id) if isinstance(e, AttemptSpent)
        ]
        assert spent.usd_nano
        assert spent.service == f"{provider_name}/{name}"


@every
async def test_an_answer_that_was_cut_off_within_its_only_call_is_no_reply(
    flavour: Flavour, tmp_path: Path
) -> None:
    """A handler would take it for the end; it raises, and what it cost is paid."""
    path = tmp_path / "undercroft.db"
    cut = Answer(text="I will", calls=[Call("look", '{"key": "te')], stop="length")
    with Provider([cut]) as provider:
        async with flavour.model(provider.url) as model:
            budgets = uc.Budgets(turn=uc.Budget(output_tokens=4_000))
            outcome = await run(path, model, budgets=budgets)
    assert outcome.status == "failed"
    assert "cut off within a call of look" in str(outcome.error)
    events = read_events(str(path), outcome.turn_id)
    assert sum(e.output_tokens for e in events if isinstance(e, AttemptSpent)) > 0
    assert any(isinstance(e, AttemptReserved) and e.body for e in events)


@every
@pytest.mark.parametrize(
    "reply",
    [
        Garbage(),
        Status(status=200, body=b'{"error": {"message": "no", "type": "invalid_request_error"}}'),
        ErrorEvent(answer=Answer(text="x"), events=0),
        Answer(refusal="No."),
        Answer(text="Part", stop="filter"),
    ],
    ids=["garbage", "error", "event", "refusal", "filter"],
)
async def test_whatever_comes_leaves_a_turn_that_ended(flavour: Flavour, reply: Reply) -> None:
    """No answer of a provider leaves a turn by an exception."""
    with Provider(lambda _: reply) as provider:
        async with flavour.model(provider.url) as model:
            outcome = await run(None, model, services=quick(*keys(flavour, "m-1")))
    assert outcome.status in ("done", "failed")
