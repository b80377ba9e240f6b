"""Whatever a provider sends becomes an answer that says what it is, or an error of a known type."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

import undercroft as uc
from tests.models.talking import FLAVOURS, HELLO, KEY, LOOK, STREAMED, WHOLE, Flavour, asked, failed
from tests.provider import Answer, Call, Close, ErrorEvent, Garbage, Hang, Provider, Status, Usage
from undercroft.errors import DeadlineError, ServiceError, StreamBrokenError
from undercroft.model.message import Stop
from undercroft.model.step import ErrorClass

every = pytest.mark.parametrize("flavour", FLAVOURS, ids=str)
streamed = pytest.mark.parametrize("flavour", STREAMED, ids=str)
whole = pytest.mark.parametrize("flavour", WHOLE, ids=str)


@every
async def test_an_answer_says_all_there_is_to_know(flavour: Flavour) -> None:
    """Text, calls, usage, why it ended and which model it was, from every API alike."""
    usage = Usage(input_tokens=120, output_tokens=30, cached_tokens=100)
    said = Answer(text="I look it up, gladly.", calls=[Call("look", {"key": "ä"})], usage=usage)
    answer = await asked(flavour, said, replace(HELLO, tools=(LOOK,)))
    assert answer.text == "I look it up, gladly."
    assert [(call.name, call.arguments) for call in answer.calls] == [("look", '{"key": "ä"}')]
    assert answer.usage == uc.Usage(120, 30, 100)
    assert (answer.stop, answer.model, answer.native, answer.cut) == (Stop.CALLS, "m-1", None, ())


@every
async def test_an_answer_without_calls_ends(flavour: Flavour) -> None:
    """A plain answer ends, and nothing else is made of it."""
    answer = await asked(flavour, Answer(text="Hello."))
    assert (answer.text, answer.calls, answer.stop) == ("Hello.", (), Stop.END)


@every
async def test_malformed_arguments_stay_as_the_model_wrote_them(flavour: Flavour) -> None:
    """Arguments that are no JSON are no error of the client: the call is refused later."""
    answer = await asked(flavour, Answer(calls=[Call("look", '{"key": oops'), Call("look", "[1]")]))
    assert [call.arguments for call in answer.calls] == ['{"key": oops', "[1]"]


@every
async def test_two_calls_with_one_id_survive(flavour: Flavour) -> None:
    """A provider may give an id twice; both calls are there, in their order."""
    calls = [Call("look", {"key": "a"}, "same"), Call("look", {"key": "b"}, "same")]
    answer = await asked(flavour, Answer(calls=calls))
    assert [(call.id, call.arguments) for call in answer.calls] == [
        ("same", '{"key": "a"}'),
        ("same", '{"key": "b"}'),
    ]


@every
async def test_a_refusal_is_an_answer_that_says_so(flavour: Flavour) -> None:
    """What the model says instead is its text."""
    answer = await asked(flavour, Answer(refusal="That I will not do."))
    assert (answer.text, answer.stop, answer.calls) == ("That I will not do.", Stop.REFUSAL, ())


@every
async def test_a_filtered_answer_says_so(flavour: Flavour) -> None:
    """What came before the filter is there; Anthropic calls it a refusal."""
    answer = await asked(flavour, Answer(text="Once upon a", stop="filter"))
    assert answer.text == "Once upon a"
    assert answer.stop == (Stop.REFUSAL if flavour.anthropic else Stop.FILTER)


@every
async def test_a_cut_text_is_an_answer_that_says_so(flavour: Flavour) -> None:
    """A text that is cut off by its length is there, and told."""
    answer = await asked(flavour, Answer(text="Once upon a", stop="length"))
    assert (answer.text, answer.stop, answer.cut) == ("Once upon a", Stop.LENGTH, ())


@every
async def test_a_call_that_was_cut_off_is_not_among_the_calls(flavour: Flavour) -> None:
    """What was cut off in its middle never runs; those before it are whole, and it is named."""
    calls = [Call("look", {"key": "a"}), Call("pay", '{"sum": 3')]
    answer = await asked(flavour, Answer(text="So:", calls=calls, stop="length"))
    assert [(call.name, call.arguments) for call in answer.calls] == [("look", '{"key": "a"}')]
    assert (answer.stop, answer.cut) == (Stop.LENGTH, ("pay",))


@pytest.mark.parametrize(
    ("status", "headers", "kind", "hint_s"),
    [
        (429, {"retry-after": "7"}, ErrorClass.OVERLOADED, 7.0),
        (503, {}, ErrorClass.OVERLOADED, None),
        (529, {"retry-after": "3"}, ErrorClass.OVERLOADED, 3.0),
        (500, {}, ErrorClass.TRANSIENT, None),
        (400, {}, ErrorClass.PERMANENT, None),
        (401, {}, ErrorClass.PERMANENT, None),
        (404, {}, ErrorClass.DOMAIN, None),
    ],
)
@every
async def test_a_status_is_judged_by_the_library_s_own_error(
    flavour: Flavour, status: int, headers: dict[str, str], kind: ErrorClass, hint_s: float | None
) -> None:
    """Errors keep their types, and the library does not try again by itself."""
    seen: list[int] = []
    error, judged = await failed(
        flavour,
        Status(status=status, headers=headers),
        seen=lambda provider: seen.append(len(provider.requests)),
    )
    assert type(error).__module__.partition(".")[0] in ("openai", "anthropic")
    assert (judged.error_class, judged.retry_after_s) == (kind, hint_s)
    assert seen == [1]


@every
async def test_a_connection_that_closes_before_the_first_byte_may_be_tried_again(
    flavour: Flavour,
) -> None:
    """A stream that never began is no broken one: it raises what the library raises."""
    error, judged = await failed(flavour, Close())
    assert type(error).__name__ == "APIConnectionError"
    assert judged.error_class is ErrorClass.TRANSIENT


@whole
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "Overloaded", "type": "overloaded_error"}}, ErrorClass.OVERLOADED),
        ({"error": {"message": "no money", "code": "insufficient_quota"}}, ErrorClass.PERMANENT),
        ({"error": {"message": "later", "code": 503}}, ErrorClass.OVERLOADED),
        ({"error": "it broke"}, ErrorClass.PERMANENT),
        ({"error": {"message": "oh", "type": "server_error"}, "choices": []}, ErrorClass.TRANSIENT),
    ],
)
async def test_an_error_in_a_200_is_an_error(
    flavour: Flavour, body: dict[str, Any], kind: ErrorClass
) -> None:
    """A service that says 200 and means an error is judged by the error."""
    error, judged = await failed(flavour, Status(status=200, body=json.dumps(body).encode()))
    assert isinstance(error, ServiceError)
    assert error.service == ("anthropic/m-1" if flavour.anthropic else "openai/m-1")
    assert judged.error_class is kind


@whole
@pytest.mark.parametrize("data", [b"<html>hello", b'{"choices": [', b"", b"[]", b'"x"', b"null"])
async def test_a_200_that_is_no_answer_may_be_tried_again(flavour: Flavour, data: bytes) -> None:
    """What cannot be read is judged as what broke off on its way."""
    for kind in ("application/json", "text/html"):
        reply = Status(status=200, headers={"content-type": kind}, body=data)
        error, judged = await failed(flavour, reply)
        assert judged.error_class is ErrorClass.TRANSIENT, error


@every
async def test_an_empty_answer(flavour: Flavour) -> None:
    """No choice and no output may be tried again; no content is an answer of Anthropic's."""
    if flavour.anthropic:
        answer = await asked(flavour, Answer(empty=True))
        assert (answer.text, answer.calls, answer.stop) == ("", (), Stop.END)
        return
    error, judged = await failed(flavour, Answer(empty=True))
    assert isinstance(error, ServiceError)
    assert error.code == "empty_answer"
    assert judged.error_class is ErrorClass.TRANSIENT


@streamed
async def test_an_error_that_a_stream_begins_with_is_the_error(flavour: Flavour) -> None:
    """Before anything was said, an error event is no broken stream."""
    error, judged = await failed(flavour, ErrorEvent(answer=Answer(text="Hello"), events=0))
    assert not isinstance(error, StreamBrokenError)
    assert judged.error_class is ErrorClass.OVERLOADED


@streamed
async def test_garbage_in_a_stream_is_a_broken_stream(flavour: Flavour) -> None:
    """An event that cannot be read breaks the answer off."""
    reply = Garbage(data=b"{nonsense", answer=Answer(text="Hello, hello, hello"), events=4)
    error, judged = await failed(flavour, reply)
    assert isinstance(error, StreamBrokenError)
    assert judged.error_class is ErrorClass.TRANSIENT


@every
async def test_no_key_leaves_the_library(flavour: Flavour) -> None:
    """Neither what a model says of itself nor its body or settings hold the key."""
    with Provider([]) as provider:
        async with flavour.model(provider.url) as model:
            body = model.body(HELLO, model.wire)
            assert KEY not in repr([model, body, model.wire])


@every
async def test_a_call_that_hangs_ends_with_its_caller(flavour: Flavour) -> None:
    """Whoever gives up closes the connection; no request goes on."""
    with Provider([Hang()]) as provider:
        async with flavour.model(provider.url) as model:
            with pytest.raises(DeadlineError):
                async with uc.Timeout(0.2):
                    await model.complete(HELLO)
        provider.release()
        assert len(provider.requests) == 1
