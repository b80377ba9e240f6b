"""A window over plain messages, alone: what goes in, what comes out, and what is left out."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layers.context.providers import (
    anthropic_chats,
    check_anthropic,
    check_openai,
    openai_chats,
)
from tests.layers.context.test_shapes import flat
from undercroft.engine.parts.context import Context
from undercroft.errors import (
    ContextError,
    ContextOverflowError,
    DeclarationError,
    MessageError,
    SettingError,
)
from undercroft.layers.context.items import Fate
from undercroft.layers.context.policy import ContextPolicy
from undercroft.model.message import Message, ToolSpec

SMALL = ContextPolicy(limit_tokens=1_000, reserved_tokens=100)
MEDIUM = ContextPolicy(limit_tokens=4_000, reserved_tokens=400, low_share=0.6)
LARGE = ContextPolicy(limit_tokens=1_000_000)
CALL = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}


def long(number: int, size: int = 60) -> str:
    """Return a text of some length that is like no other."""
    return f"{number}: " + " ".join(f"word{number}x{n}" for n in range(size))


def step(number: int, size: int = 60) -> list[dict[str, Any]]:
    """Return a user's message, a call, its result and an answer, for OpenAI."""
    inner = {"name": "find", "arguments": json.dumps({"order": f"#A{1000 + number}"})}
    call = {"id": f"c{number}", "type": "function", "function": inner}
    return [
        {"role": "user", "content": f"Where is order #A{1000 + number}?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": long(number, size)},
        {"role": "assistant", "content": f"It is at stop {number}."},
    ]


def step_anthropic(number: int, size: int = 60) -> list[dict[str, Any]]:
    """Return the same for Anthropic."""
    called = {"type": "tool_use", "id": f"c{number}", "name": "find"}
    result = {"type": "tool_result", "tool_use_id": f"c{number}", "content": long(number, size)}
    return [
        {"role": "user", "content": f"Where is order #A{1000 + number}?"},
        {"role": "assistant", "content": [called | {"input": {"order": f"#A{1000 + number}"}}]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": f"It is at stop {number}."},
    ]


def filled(*fates: Fate, policy: ContextPolicy = MEDIUM) -> Context:
    """Return a context that had to leave something out, and shows such fates now."""
    ctx = Context(policy)
    ctx.system("Be kind.")
    wanted = {Fate.ELIDED, *fates}
    for number in range(200):
        ctx.add(step(number))
        ctx.openai()
        if wanted <= {line.fate for line in ctx.report().lines}:
            return ctx
    raise AssertionError(wanted)


def steps(ctx: Context) -> int:
    """Return how many steps a filled context holds."""
    return len(ctx.report().lines) // 4


# ---------------------------------------------------------------------- in and out


@settings(max_examples=25)
@given(chat=openai_chats())
def test_with_room_an_openai_list_comes_out_as_it_went_in(chat: list[dict[str, Any]]) -> None:
    """Where the window has room for all of it, what comes out is the very dicts that were added."""
    before = copy.deepcopy(chat)
    ctx = Context(LARGE)
    ctx.add(chat)
    out = ctx.openai()
    assert all(each is was for each, was in zip(out, chat, strict=True))
    assert chat == before
    assert ctx.mends == []


@settings(max_examples=25)
@given(chat=anthropic_chats())
def test_with_room_an_anthropic_list_comes_out_as_it_went_in(chat: list[dict[str, Any]]) -> None:
    """The same for Anthropic; with places to cache at, only marks are added."""
    before = copy.deepcopy(chat)
    ctx = Context(LARGE)
    ctx.system("Be kind.")
    ctx.add(chat)
    system, out = ctx.anthropic(breakpoints_max=0)
    assert system == "Be kind."
    assert all(each is was for each, was in zip(out, chat, strict=True))
    marked = ctx.anthropic()
    check_anthropic(*marked)
    if chat:
        assert '"cache_control": {"type": "ephemeral"}' in json.dumps(marked)
    assert chat == before


@settings(max_examples=25)
@given(
    chats=st.lists(openai_chats() | anthropic_chats(), min_size=1, max_size=3),
    size=st.integers(20, 200),
    every=st.integers(1, 5),
)
def test_whatever_is_said_the_prompt_fits_and_nothing_is_orphaned(
    chats: list[list[dict[str, Any]]], size: int, every: int
) -> None:
    """In a small window each prompt is below the limit, and both providers take it."""
    ctx = Context(SMALL, image_tokens=50)
    count = 0
    for number, chat in enumerate(chats):
        for message in [*step(number, size), *chat]:
            ctx.add(message)
            count += 1
            if count % every == 0:
                check_openai(ctx.openai())
                check_anthropic(*ctx.anthropic())
                assert ctx.tokens <= SMALL.capacity_tokens
                lines = ctx.report().lines
                assert len({line.item for line in lines}) == len(lines)


def test_a_long_openai_conversation_stays_below_the_limit() -> None:
    """Prompts of a long conversation fit; the newest user message and the pins stand whole."""
    ctx = Context(MEDIUM)
    ctx.system("Be kind.")
    ctx.pin("Refunds above 50 need a person.")
    for number in range(40):
        question, *rest = step(number)
        ctx.add(question)
        out = ctx.openai()
        check_openai(out)
        assert ctx.tokens <= MEDIUM.capacity_tokens
        assert out[-1] is question
        assert [m["content"] for m in out if m["role"] == "system"] == [
            "Be kind.",
            "Refunds above 50 need a person.",
        ]
        ctx.add(rest)
    fates = {str(line.fate) for line in ctx.report().lines}
    assert {"kept", "elided", "dropped"} <= fates
    # What a user stated is somewhere, whatever happened to its message.
    assert "#A1000" in json.dumps(ctx.openai())


def test_a_long_anthropic_conversation_stays_below_the_limit() -> None:
    """The same in Anthropic's shape, with at most four places to cache at."""
    ctx = Context(SMALL)
    ctx.system([{"type": "text", "text": "Be kind."}])
    for number in range(40):
        question, *rest = step_anthropic(number)
        ctx.add(question)
        system, messages = ctx.anthropic()
        check_anthropic(system, messages)
        assert ctx.tokens <= SMALL.capacity_tokens
        assert json.dumps(question["content"]) in json.dumps(messages[-1])
        ctx.add(rest)
    assert ctx.report().of(Fate.ELIDED)


def test_between_compactions_a_prompt_extends_the_one_before() -> None:
    """As long as nothing was compacted the prompt before is the beginning of the next one."""
    ctx = Context(MEDIUM)
    ctx.system("Be kind.")
    before: list[dict[str, Any]] = []
    grown = compacted = 0
    for number in range(60):
        ctx.add(step(number, 10))
        again = bool(ctx.pressure)
        out = ctx.openai()
        if again:
            compacted += 1
            assert out[: len(before)] != before
        else:
            grown += 1
            assert out[: len(before)] == before
        assert ctx.openai() == out
        before = out
    assert 0 < compacted < grown / 4


def test_for_anthropic_too_a_prompt_extends_the_one_before() -> None:
    """In Anthropic's shape the blocks of the prompt before stand in front of the next one's."""
    ctx = Context(MEDIUM)
    before: list[Any] = []
    for number in range(40):
        ctx.add(step_anthropic(number, 10))
        again = bool(ctx.pressure)
        system, messages = ctx.anthropic(breakpoints_max=0)
        blocks = [system, *flat(messages)]
        if not again:
            assert blocks[: len(before)] == before
        before = blocks


def test_only_the_content_of_what_is_left_out_changes() -> None:
    """A result that gives way to a note is the message that was added but for its content."""
    ctx = filled()
    elided = [m for m in ctx.openai() if m["role"] == "tool" and "left out" in m["content"]]
    assert elided
    for message in elided:
        number = int(message["tool_call_id"][1:])
        (was,) = (m for m in step(number) if m["role"] == "tool")
        assert message == was | {"content": message["content"]}


def test_a_result_larger_than_the_window_is_cut_and_the_rest_can_be_had() -> None:
    """One result cannot overflow a window: it is cut when it comes, and recalled in parts."""
    ctx = Context(SMALL)
    text = long(7, 3_000)
    ctx.add([{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [CALL]}])
    ctx.add({"role": "tool", "tool_call_id": "c", "content": text})
    shown = ctx.openai()[-1]["content"]
    assert text.startswith(shown.partition("\n[undercroft")[0])
    (line,) = ctx.report().of(Fate.ELIDED)
    assert ctx.recall(line.handle) == text
    assert ctx.recall(line.handle, 10, 20) == text[10:20]


def test_what_cannot_be_made_to_fit_is_an_error_and_nothing_is_lost() -> None:
    """A message larger than the window is a clear error; with a larger window it goes on."""
    ctx = Context(SMALL)
    ctx.user(long(1, 2_000))
    with pytest.raises(ContextOverflowError, match="shorten it, or say it in parts"):
        ctx.openai()
    larger = Context(LARGE).load(ctx.dump())
    assert larger.openai() == [{"role": "user", "content": long(1, 2_000)}]


def test_texts_can_be_said_without_dicts() -> None:
    """`system`, `user`, `assistant` and `pin` say what dicts would."""
    ctx = Context(LARGE)
    ctx.system("Be kind.")
    ctx.system("Be brief.")
    ctx.user("hi \ud800")
    ctx.assistant("hello")
    ctx.pin("Never guess.\udfff")
    ctx.pin("Never guess.\udfff")
    assert ctx.prompt() == (
        Message("system", "Be kind."),
        Message("system", "Be brief."),
        Message("system", "Never guess.\ufffd"),
        Message("user", "hi \ufffd"),
        Message("assistant", "hello"),
    )
    assert ctx.prompt() == ctx.messages
    with pytest.raises(ContextError, match="the first prompt was assembled already"):
        ctx.system("Be rude.")
    with pytest.raises(DeclarationError):
        ctx.pin("")
    with pytest.raises(MessageError):
        ctx.pin(7)  # type: ignore[arg-type]


def test_a_system_message_that_comes_later_stays_in_its_place() -> None:
    """Leading system messages are the system; one that comes later is a message like others."""
    chat = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": "The shop closes."},
        {"role": "user", "content": "Well?"},
    ]
    ctx = Context(LARGE)
    ctx.add(chat)
    assert ctx.openai() == chat
    assert ctx.anthropic(breakpoints_max=0)[0] == "Be kind."


# ---------------------------------------------------------------------- bad input


def test_what_is_no_message_is_refused_and_the_conversation_goes_on() -> None:
    """The error says which message and what to do; nothing of the list is in the context."""
    ctx = Context(LARGE)
    ctx.user("hi")
    with pytest.raises(MessageError, match=r"messages\[1\]: its role is \"critic\"") as caught:
        ctx.add([{"role": "user", "content": "a"}, {"role": "critic", "content": "b"}])
    assert "None of the messages given with it was added" in str(caught.value)
    for bad in ("hello", None, 7, [None]):
        with pytest.raises(MessageError):
            ctx.add(bad)
    ctx.add([])
    ctx.add(each for each in [{"role": "assistant", "content": "hello"}])
    assert [m["content"] for m in ctx.openai()] == ["hi", "hello"]


def test_calls_without_a_result_do_not_block_the_prompt() -> None:
    """Calls that have no result when a prompt is wanted are answered with that, and it is said."""
    ctx = Context(LARGE)
    ctx.add([{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [CALL]}])
    out = ctx.openai()
    check_openai(out)
    assert out[-1]["content"] == "There is no result of this call."
    assert any("no result" in what for _, what in ctx.mends)
    ctx.add({"role": "tool", "tool_call_id": "c", "content": "late"})
    check_openai(ctx.openai())
    assert "late" in ctx.openai()[-1]["content"]
    assert Context(LARGE).load(ctx.dump()).openai() == ctx.openai()


def test_what_a_stray_result_says_was_not_stated_by_the_user() -> None:
    """A result that belongs to no call is shown in the user's place, and is not the user's word."""
    ctx = Context(LARGE)
    ctx.user("hi")
    ctx.add({"role": "tool", "tool_call_id": "x", "content": "order #Z9999"})
    kinds = [line.kind for line in ctx.report().lines]
    assert kinds == ["user", "notice"]


@pytest.mark.parametrize(
    ("settings_", "name"),
    [
        ({"policy": None}, "policy"),
        ({"policy": 8_000}, "policy"),
        ({"counter": "o200k_base"}, "counter"),
        ({"image_tokens": None}, "image_tokens"),
        ({"page_tokens": -1}, "page_tokens"),
        ({"summary_timeout_s": 0}, "summary_timeout_s"),
        ({"summary_timeout_s": float("nan")}, "summary_timeout_s"),
        ({"summary_timeout_s": True}, "summary_timeout_s"),
        ({"policy": ContextPolicy(limit_tokens=1_000, reserved_tokens=0, vocabulary="x")},
         "vocabulary"),
    ],
)  # fmt: skip
def test_settings_are_checked_where_they_are_written(settings_: Any, name: str) -> None:
    """A setting that is none fails at once, and says which and what it must be."""
    with pytest.raises(SettingError) as caught:
        Context(**{"policy": LARGE} | settings_)
    assert caught.value.name == name


def test_a_summariser_is_async() -> None:
    """What writes summaries is awaited; anything else is refused where it is written."""
    for bad in (lambda _: "", 7, "model", object()):
        with pytest.raises(DeclarationError):
            Context(LARGE, summarise=bad)  # type: ignore[arg-type]


class Words:
    """Counts words."""

    name, exact = "words", True

    def count(self, text: str) -> int:
        """Return how many words a text has."""
        return len(text.split())


def test_a_counter_of_ones_own_counts() -> None:
    """What counts tokens may be given; the policy then names it."""
    ctx = Context(LARGE, counter=Words())
    assert ctx.policy.vocabulary == "words"
    before = ctx.tokens
    ctx.user("one two three")
    assert 3 <= ctx.tokens - before <= 12
    named = ContextPolicy(limit_tokens=1_000, reserved_tokens=100, vocabulary="words")
    assert Context(named, counter=Words()).policy is named


def test_images_weigh_what_is_said_and_tools_what_they_have() -> None:
    """What is not text, and tools in either shape, count."""
    ctx = Context(LARGE, image_tokens=777)
    before = ctx.tokens
    ctx.add({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]})
    assert 777 < ctx.tokens - before < 800
    before = ctx.tokens
    ctx.offer([Context.recall_tool("openai"), Context.recall_tool("anthropic")])
    with_two = ctx.tokens
    assert with_two > before + 80
    ctx.offer(
        [ToolSpec("find", "Find it.", {"type": "object"}), {"type": "web_search", "name": "w"}]
    )
    assert before < ctx.tokens < with_two
    ctx.offer([])
    assert ctx.tokens == before


# ---------------------------------------------------------------------- what was left out


def test_a_report_has_every_message_once() -> None:
    """Each message is kept, elided, summarised or dropped: exactly one, with tokens and reason."""
    ctx = filled()
    report = ctx.report()
    assert [line.item for line in report.lines][:2] == ["system 1", "0.0"]
    assert len({line.item for line in report.lines}) == len(report.lines) == 1 + 4 * steps(ctx)
    for line in report.lines:
        assert bool(line.reason) == (line.fate is not Fate.KEPT)
    assert report.tokens == sum(report.sections.values())
    assert json.dumps(report.plain())


@pytest.mark.parametrize("shape", ["openai", "anthropic"])
def test_a_model_can_recall_what_was_left_out(shape: str) -> None:
    """The model's call of the tool is answered with a message that goes in like any other."""
    ctx = filled()
    line = next(line for line in ctx.report().of(Fate.ELIDED) if line.kind == "result")
    arguments = {"handle": line.handle, "start": 3, "end": 20}
    turn, _ = line.item.split(".")
    wanted = long(int(turn))[3:20]
    call: dict[str, Any]
    if shape == "openai":
        inner = {"name": "recall", "arguments": json.dumps(arguments)}
        call = {"id": "r", "type": "function", "function": inner}
        ctx.add({"role": "assistant", "content": None, "tool_calls": [CALL | {"id": "o"}, call]})
        ctx.add({"role": "tool", "tool_call_id": "o", "content": "other"})
    else:
        call = {"type": "tool_use", "id": "r", "name": "recall", "input": arguments}
        ctx.add({"role": "assistant", "content": [call]})
    assert ctx.is_recall(call)
    assert not ctx.is_recall(CALL)
    assert not ctx.is_recall("recall")
    answer = ctx.answer_recall(call)
    assert wanted in json.dumps(answer)
    ctx.add(answer)
    check_openai(ctx.openai())
    check_anthropic(*ctx.anthropic())
    assert ctx.prompt()[-1].content == wanted
    assert ctx.prompt()[-1].name == "recall"


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"handle": 7},
        {"handle": "r0.99"},
        {"handle": "../etc/passwd"},
        {"handle": "r0.2", "start": 10**9},
        {"handle": "r0.2", "start": "0"},
        {"handle": "r0.2", "end": -1},
        "{",
        "[" * 5_000,
        None,
        [],
    ],
)
def test_a_recall_that_makes_no_sense_is_answered(arguments: Any) -> None:
    """A fault of the model's is told to the model, in either shape, and raised to nobody."""
    ctx = filled()
    block = {"type": "tool_use", "id": "r", "name": "recall", "input": arguments}
    (told,) = ctx.answer_recall(block)["content"]
    assert told["is_error"] is True
    assert "recall" in told["content"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"id": "r", "function": {"name": "recall", "arguments": text}}
    assert ctx.answer_recall(call) == {
        "role": "tool",
        "tool_call_id": "r",
        "content": told["content"],
    }


def test_what_is_no_recall_is_refused() -> None:
    """The call of another tool, or what is none, is the caller's mistake."""
    ctx = Context(LARGE)
    for bad in (CALL, {"type": "text"}, None, {"type": "tool_use", "name": "find"}):
        with pytest.raises(MessageError):
            ctx.answer_recall(bad)
    with pytest.raises(SettingError):
        ctx.recall_tool("gemini")


def test_what_was_left_out_expires_after_so_many_turns() -> None:
    """A handle is good for as many of the user's messages as the policy says, and then says so."""
    policy = ContextPolicy(limit_tokens=4_000, reserved_tokens=400, low_share=0.6, recall_turns=20)
    ctx = filled(policy=policy)
    line = ctx.report().of(Fate.ELIDED)[-1]
    turn = int(line.item.split(".")[0])
    for _ in range(10):
        ctx.user("And now?")
        assert ctx.recall(line.handle) == long(turn)
    for _ in range(11):
        ctx.user("And now?")
    with pytest.raises(ContextError, match="expired"):
        ctx.recall(line.handle)


# ---------------------------------------------------------------------- dump and load


@settings(max_examples=20)
@given(
    chats=st.lists(openai_chats() | anthropic_chats(), min_size=1, max_size=3),
    size=st.integers(20, 120),
)
def test_a_context_that_was_dumped_goes_on_with_the_same_bytes(
    chats: list[list[dict[str, Any]]], size: int
) -> None:
    """The next prompt of a loaded context has the same bytes, and so has every one after it."""
    ctx = Context(SMALL, image_tokens=50)
    ctx.system("Be kind.")
    for number, chat in enumerate(chats):
        ctx.add([*step(number, size), *chat])
        ctx.openai()
        ctx.heard({"prompt_tokens": ctx.tokens, "completion_tokens": 5})
    ctx.offer([ctx.recall_tool()])
    ctx.pin("Never guess.")
    ctx.add(step(90, size)[:2])
    other = Context(SMALL, image_tokens=50).load(ctx.dump())
    assert other.dump() == ctx.dump()
    for one in (ctx, other):
        one.add(step(90, size)[2:])
    assert json.dumps(other.openai()) == json.dumps(ctx.openai())
    assert json.dumps(other.anthropic()) == json.dumps(ctx.anthropic())
    assert other.report() == ctx.report()
    assert other.tokens == ctx.tokens
    assert other.quality == ctx.quality
    assert other.dump() == ctx.dump()


@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_a_damaged_dump_is_refused(cut: int) -> None:
    """What is no dump is told from one, and nothing of it is taken in."""
    data = filled().dump()
    ctx = Context(SMALL)
    with pytest.raises(ContextError, match="no dump of a context"):
        ctx.load(data[:cut])
    ctx.user("hi")
    assert len(ctx.openai()) == 1
    with pytest.raises(ContextError, match="something was said here already"):
        ctx.load(data)


def test_a_dump_of_a_newer_version_is_refused() -> None:
    """A dump that a newer version wrote says so."""
    data = Context(SMALL).dump().replace(b"\xa7version\x01", b"\xa7version\x63")
    with pytest.raises(ContextError, match="version 99"):
        Context(SMALL).load(data)


def test_a_dump_may_be_loaded_under_another_policy_and_counter() -> None:
    """Under another policy what was left out stays so, nothing else is lost, and the pins stay."""
    ctx = filled(Fate.DROPPED)
    ctx.pin("Never guess.")
    larger = Context(LARGE, counter=Words()).load(ctx.dump())
    for fate in (Fate.ELIDED, Fate.DROPPED):
        assert len(larger.report().of(fate)) == len(ctx.report().of(fate)) > 0
    larger.add(step(50))
    check_openai(larger.openai())
    assert "Never guess." in json.dumps(larger.openai())


# ---------------------------------------------------------------------- how it looks


def test_a_context_says_how_it_stands() -> None:
    """Its size, its quality, and that nothing is known of the quality at first."""
    ctx = Context(SMALL)
    assert ctx.quality.value is None
    assert ctx.turn_quality.value is None
    assert ctx.alarm is None
    assert repr(ctx) == f"<Context 0 messages: {ctx.tokens:,} of 1,000 tokens>"
    full = filled()
    assert full.quality.value is None or 0 <= full.quality.value <= 99
