"""The judge of `bench.context`: what it calls present, orphaned, kept and wanted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.context.ideal import Ideal
from bench.context.scored import Prompt, has, orphaned, plain, score, wanted_of
from bench.context.sessions import STOP, Conversation, Session, stitch

Chat = dict[str, Any]


def call(call_id: str, **given: Any) -> Chat:
    """Return an assistant's message that proposes one call."""
    function = {"name": "look", "arguments": json.dumps(given)}
    calls = [{"id": call_id, "type": "function", "function": function}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id: str, content: str) -> Chat:
    """Return the result of a call."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


TALK: tuple[Chat, ...] = (
    {"role": "system", "content": "Help. We are open on 2026-01-05."},
    {"role": "user", "content": "Order #A1001 of ada@example.com, since 2026-01-05."},
    call("c1", order_id="#A1001"),
    result("c1", '{"item": "778899001", "owner": "ada_lovelace_4711"}'),
    call("c2", item="778899001", count=2),
    result("c2", "done"),
    {"role": "assistant", "content": "It is done."},
)
SESSION = Session("x", "retail", TALK, ("g",), 100)


def whole() -> list[Prompt]:
    """Return the prompts that leave nothing out."""
    return [Prompt(list(TALK[:at])) for at in SESSION.answers]


@pytest.mark.parametrize(
    ("text", "value", "there"),
    [
        ("order #A1001, please", "#a1001", True),
        ("order #A10012, please", "#a1001", False),
        ("12345", "1234", False),
        (r'"{\"zip\": \"19122\"}"', "19122", True),
        (r"line\n19122", "19122", True),
        (r"\u0041da said", "ada", True),
    ],
)
def test_presence_is_of_whole_values(text: str, value: str, there: bool) -> None:  # noqa: FBT001
    """A value is present as a whole, in any case, whatever JSON made of what is round it."""
    assert has(plain(text), value) is there


def test_wanted_is_what_was_said() -> None:
    """Stated and used values are wanted, but for those that the system message has anyway."""
    wanted = wanted_of(SESSION)
    assert set(wanted.stated) == {"#a1001", "ada@example.com"}
    assert wanted.used == {2: ("#a1001",), 4: ("778899001",)}


def test_whole_prompts_lose_nothing() -> None:
    """The conversation itself loses nothing, and each of its prompts begins the next."""
    pytest.importorskip("bpe_openai", reason="the judge counts by it")
    found = score(SESSION, wanted_of(SESSION), whole(), 10_000)
    assert (found.lost, found.missing, found.orphaned, found.over) == (0, 0, 0, 0)
    assert found.kept_pairs == found.pairs == 2
    assert found.kept_tokens == found.former_tokens


def test_what_is_left_out_is_lost() -> None:
    """What a prompt leaves out is lost, missing, and breaks the prefix; a handle is no presence."""
    pytest.importorskip("bpe_openai", reason="the judge counts by it")
    prompts = whole()
    del prompts[1].messages[1]
    del prompts[1].messages[2]
    prompts[2] = Prompt([TALK[0], TALK[6]], behind=["#A1001"])
    found = score(SESSION, wanted_of(SESSION), prompts, 10)
    assert (found.missing, found.lost, found.lost_back) == (1, 2, 1)
    assert found.orphaned == 1
    assert found.over == 3
    assert found.kept_pairs == 0


def test_orphans_of_both_kinds() -> None:
    """A result without its call, a call without its result, and one that comes late are orphans."""
    assert not orphaned(TALK)
    assert orphaned(TALK[3:])
    assert orphaned(TALK[:3])
    assert orphaned([TALK[2], TALK[1], TALK[3]])


def test_ideal_copies_what_it_is_shown() -> None:
    """The ideal summariser copies what is scored, as it is written, and what is required."""
    ideal = Ideal(wanted_of(SESSION))
    assert ideal.copied("order #A1001 and nothing of #A10017") == ["#A1001"]
    request = {
        "earlier": [],
        "messages": [{"id": "m1", "role": "user", "text": "Order #A1001, gate 9"}],
        "identifiers": ["gate 9"],
        "tokens_max": 100,
    }
    answer = json.loads(ideal.answer(json.dumps(request)))
    assert answer == {"facts": [{"text": "#A1001, gate 9", "sources": ["m1"]}]}


def test_sessions_have_one_system_message_and_unique_ids() -> None:
    """Stitched, conversations share one system message, and no id of a call is there twice."""
    long = {"role": "user", "content": f"word {STOP}"}
    several = [Conversation(f"t/{n}", f"g{n}", (*TALK, long)) for n in range(40)]
    made, left = stitch("retail", several, lambda messages: 600 * len(list(messages)))
    assert made
    assert left + sum(len(one.groups) for one in made) == 40
    for one in made:
        ids = [c["id"] for m in one.messages for c in m.get("tool_calls") or ()]
        assert len(set(ids)) == len(ids)
        assert [m["role"] for m in one.messages].count("system") == 1
        assert len(set(one.groups)) == len(one.groups)
