"""What a loop of somebody else's asks its model: past the guards, and written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undercroft as uc
from tests.engine.guesting import asked, foreign
from undercroft.engine.guest import Guest
from undercroft.model.event import StepStarted
from undercroft.model.foreign import Sending
from undercroft.model.message import Answer, Message
from undercroft.queries import read_events, read_prompt
from undercroft.testing import run_virtual

LOOK = uc.Call("look", {"note": "x"}, "c1")


def prompts(path: Path, turn_id: str) -> list[tuple[tuple[Message, ...], bool]]:
    """Return every prompt of a turn, rebuilt from its journal, and whether it is verified."""
    events = read_events(str(path), turn_id)
    numbers = [e.n for e in events if isinstance(e, StepStarted) and e.kind == "model"]
    found = [read_prompt(str(path), turn_id, n) for n in numbers]
    return [(prompt.messages, prompt.verified) for prompt in found if prompt is not None]


def _found(value: Any) -> Any:
    async def work() -> Any:
        return value

    return work


async def _turn(guest: Guest, said: list[Message], text: str) -> list[Message]:
    """Do what a framework does in a turn: ask, call, ask; return the whole conversation."""
    await asked(guest, said, Answer("", (LOOK,)))
    said = [*said, Message("assistant", "", (LOOK,))]
    await guest.saw([LOOK])
    result = await guest.call(LOOK, _found({"found": 1}))
    said = [*said, Message("tool", result.text, (), LOOK.id, "look")]
    await asked(guest, said, Answer(text))
    await guest.end(text)
    return [*said, Message("assistant", text)]


def test_every_prompt_can_be_rebuilt_from_the_journal(tmp_path: Path) -> None:
    """Also of the second turn, whose history its framework tells again."""
    path = tmp_path / "journal.db"
    seen: list[tuple[str, list[list[Message]]]] = []

    async def main() -> None:
        async with uc.Runtime(path) as rt:
            toolset = rt.toolset("support", [foreign("look", reads="r")])
            said: list[Message] = [Message("system", "You help.")]
            for question in ("first?", "second?"):
                guest = rt.guest(toolset, session="s")
                said = [*said, Message("user", question)]
                begun = list(said)
                await guest.saw([])
                turn_id = guest.turn_id
                said = await _turn(guest, said, f"answer to {question}")
                seen.append((turn_id, [begun, said[:-1]]))

    run_virtual(main())
    for turn_id, sent in seen:
        assert prompts(path, turn_id) == [(tuple(messages), True) for messages in sent]


def test_a_conversation_that_its_loop_changed_begins_anew(tmp_path: Path) -> None:
    """A framework that summarises or edits its history sends another one: so it is recorded."""
    path = tmp_path / "journal.db"
    histories = [
        [Message("user", "a"), Message("assistant", "b"), Message("user", "c")],
        [Message("system", "In short: a, b."), Message("user", "c")],
        [Message("system", "In short: a, b."), Message("user", "c"), Message("user", "d")],
    ]

    async def main() -> str:
        async with uc.Runtime(path) as rt:
            guest = rt.guest([foreign("look", reads="r")])
            for history in histories:
                await asked(guest, history, Answer("ok"))
            turn_id = guest.turn_id
            await guest.end("ok")
            return turn_id

    turn_id = run_virtual(main())
    # The answer to the second is not in the third, so that one begins anew as well.
    assert prompts(path, turn_id) == [(tuple(history), True) for history in histories]


ROLES = st.sampled_from(["system", "user", "assistant", "call"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(ROLES, min_size=1, max_size=6), min_size=1, max_size=4), st.booleans())
def test_what_goes_out_is_what_the_loop_gave(shapes: list[list[str]], grows: bool) -> None:  # noqa: FBT001
    """With nothing to add and nothing to cut, each message is the loop's own, in its place."""

    async def main() -> None:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("look", reads="r")])
            said: list[Message] = []
            for turn, shape in enumerate(shapes):
                fresh = [] if grows else [Message("user", f"anew {turn}")]
                said = [*(said if grows else fresh), *_messages(shape, turn)]
                sending = await asked(guest, said, Answer(f"answer {turn}"))
                systems = [m for m in said if m.role == "system"]
                others = [m for m in said if m.role != "system"]
                assert list(sending.request.messages) == systems + others
                given = [said[place] for place in sending.places if place is not None]
                assert given == list(sending.request.messages)
                said = [*said, Message("assistant", f"answer {turn}")]
            await guest.end()

    run_virtual(main())


def _messages(shape: list[str], turn: int) -> list[Message]:
    found: list[Message] = []
    for k, role in enumerate(shape):
        if role == "call":
            call = uc.Call("look", {"k": k}, f"c{turn}-{k}")
            found.append(Message("assistant", "", (call,)))
            found.append(Message("tool", f"found {k}", (), call.id, "look"))
        else:
            found.append(Message(role, f"{role} {turn} {k}"))  # type: ignore[arg-type]  # a role
    return found


def test_a_window_that_is_too_full_is_compacted_under_the_loop() -> None:
    """What the framework never forgets the window does: old results go out as tombstones."""

    async def main() -> None:
        policy = uc.ContextPolicy(limit_tokens=2_000, reserved_tokens=200)
        async with uc.Runtime(context=policy, loops=None) as rt:
            guest = rt.guest([foreign("look", reads="r")])
            said = [Message("system", "You help."), Message("user", "Sum it all up.")]
            cut = 0
            for k in range(30):
                call = uc.Call("look", {"note": k}, f"c{k}")
                sending = await asked(guest, said, Answer("", (call,)))
                assert sum(len(m.content) for m in sending.request.messages) < 2_000 * 5
                assert any(m.content == "Sum it all up." for m in sending.request.messages)
                cut += not sending.plain
                await guest.saw([call])
                result = await guest.call(call, _found(f"page {k}: " + "word " * 150))
                said += [
                    Message("assistant", "", (call,)),
                    Message("tool", result.text, (), call.id, "look"),
                ]
            assert cut > 10
            await guest.end("done")

    run_virtual(main())


async def _unavailable(_: Sending) -> Answer:
    raise ConnectionRefusedError


def test_what_asking_raised_comes_out_as_it_was() -> None:
    """The framework meets its own error; a refusal of ours has a type of ours."""

    async def main() -> None:
        policy = uc.BreakerPolicy(calls_min=2, window_calls=2)
        model = uc.Service("model", breaker=policy, retry=uc.Retry(attempts=1))
        async with uc.Runtime(services=[model]) as rt:
            guest = rt.guest([foreign("look", reads="r")])
            said = [Message("user", "go")]
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    await guest.ask(said, (), _unavailable)
            with pytest.raises(uc.ModelError, match="model"):
                await guest.ask(said, (), _unavailable)
            turn_id = guest.turn_id
            await guest.fail(RuntimeError("gave up"))
            trace = rt.trace(turn_id)
            assert [str(step.status) for step in trace.steps] == ["failed", "failed", "refused"]
            assert str(trace.status) == "failed"

    run_virtual(main())


def test_a_model_that_says_the_same_again_and_again_is_told_and_ended() -> None:
    """Without calls nothing changes between its answers: that is a circle, too."""

    async def main() -> None:
        async with uc.Runtime() as rt:
            guest = rt.guest([foreign("look", reads="r")])
            said = [Message("user", "go")]
            for _ in range(100):
                try:
                    await asked(guest, said, Answer("hmm"))
                except (uc.LoopError, uc.ModelError):
                    break
                said += [Message("assistant", "hmm"), Message("user", "continue")]
            else:
                pytest.fail("nobody stopped it")
            await guest.end()

    run_virtual(main())


def test_usage_is_spent_and_priced(tmp_path: Path) -> None:
    """The budget of a turn counts what the framework's model took."""

    async def main() -> uc.Trace:
        prices = {"tiny-1": uc.Price(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)}
        budgets = uc.Budgets(turn=uc.Budget(usd=1.0))
        async with uc.Runtime(tmp_path / "j.db", prices=prices, budgets=budgets) as rt:
            guest = rt.guest([foreign("look", reads="r")])
            await asked(guest, [Message("user", "go")], Answer("ok", (), uc.Usage(1_000, 500)))
            turn_id = guest.turn_id
            await guest.end("ok")
            return rt.trace(turn_id)

    trace = run_virtual(main())
    spent = trace.steps[0].spent
    assert spent is not None
    assert (spent.input_tokens, spent.output_tokens) == (1_000, 500)
    assert spent.usd == pytest.approx(0.002)
