"""The scripted provider speaks its protocols over real HTTP, and breaks where it is told to."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.provider import (
    Answer,
    Call,
    Close,
    Cut,
    ErrorEvent,
    Garbage,
    Hang,
    Provider,
    ProviderError,
    Request,
    Script,
    Status,
)

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
BATCH = Answer(text="At once.", calls=[Call("draw", {"sum": 30}), Call("draw", {"sum": 50})])
LONG = Answer(text="one two three four five six seven eight nine ten eleven twelve")
ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "go"}]},
    RESPONSES: {"model": "m", "input": [{"role": "user", "content": "go"}]},
    MESSAGES: {"model": "m", "messages": [{"role": "user", "content": "go"}]},
}


@contextmanager
def connected(provider: Provider) -> Iterator[http.client.HTTPConnection]:
    """Yield a connection to it."""
    connection = http.client.HTTPConnection(provider.url.removeprefix("http://"), timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def post(provider: Provider, path: str, body: object = None) -> tuple[int, bytes]:
    """Return the status and the body of an answer."""
    with connected(provider) as connection:
        connection.request("POST", path, json.dumps(ASKED[path] if body is None else body))
        response = connection.getresponse()
        return response.status, response.read()


def told(raw: bytes) -> list[dict[str, Any]]:
    """Return the data of all events that are JSON."""
    lines = [line.removeprefix(b"data: ") for line in raw.split(b"\n") if line.startswith(b"data")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def streamed(path: str) -> dict[str, Any]:
    """Return a request for a stream."""
    return {**ASKED[path], "stream": True, "stream_options": {"include_usage": True}}


def history(path: str, said: dict[str, Any]) -> dict[str, Any]:
    """Return the next request, as a client makes it of an answer with calls."""
    if path == CHAT:
        message = said["choices"][0]["message"]
        results = [
            {"role": "tool", "tool_call_id": call["id"], "content": f"did {at}"}
            for at, call in enumerate(message["tool_calls"])
        ]
        return {"model": "m", "messages": [*ASKED[CHAT]["messages"], message, *results]}
    if path == RESPONSES:
        calls = [item for item in said["output"] if item["type"] == "function_call"]
        results = [
            {"type": "function_call_output", "call_id": call["call_id"], "output": f"did {at}"}
            for at, call in enumerate(calls)
        ]
        return {"model": "m", "input": [*ASKED[RESPONSES]["input"], *said["output"], *results]}
    calls = [block for block in said["content"] if block["type"] == "tool_use"]
    parts = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": f"did {at}"}
        for at, call in enumerate(calls)
    ]
    spoken = {"role": "assistant", "content": said["content"]}
    results = [{"role": "user", "content": parts}]
    return {"model": "m", "messages": [*ASKED[MESSAGES]["messages"], spoken, *results]}


@pytest.mark.parametrize("path", ASKED)
def test_a_model_of_rules_is_shown_what_its_calls_came_to(path: str) -> None:
    """In each protocol, a result is shown with the call that it belongs to."""

    def model(request: Request) -> Answer:
        shown = [(one.call.name, json.loads(one.call.text), one.text) for one in fresh(request)]
        return Answer(text=json.dumps(shown)) if shown else BATCH

    def fresh(request: Request) -> list[Any]:
        return [one for one in request.fresh if one.call is not None]

    with Provider(model) as provider:
        _, first = post(provider, path)
        _, last = post(provider, path, history(path, json.loads(first)))
        asked = provider.requests[1].asked

    said = json.loads(last)
    text = {
        CHAT: lambda: said["choices"][0]["message"]["content"],
        RESPONSES: lambda: said["output"][0]["content"][0]["text"],
        MESSAGES: lambda: said["content"][0]["text"],
    }[path]()
    assert json.loads(text) == [["draw", {"sum": 30}, "did 0"], ["draw", {"sum": 50}, "did 1"]]
    assert asked == "go"


@pytest.mark.parametrize("path", ASKED)
def test_a_stream_says_what_a_whole_answer_says(path: str) -> None:
    """The pieces of a stream, put together, are the whole answer, its usage included."""
    with Provider([BATCH, BATCH], piece_chars=3) as provider:
        _, whole = post(provider, path)
        _, raw = post(provider, path, streamed(path))

    said, events = json.loads(whole), told(raw)
    if path == CHAT:
        deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
        calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
        text = "".join(delta.get("content") or "" for delta in deltas)
        pieces = [
            "".join(c["function"]["arguments"] for c in calls if c["index"] == at) for at in (0, 1)
        ]
        message = said["choices"][0]["message"]
        assert (text, pieces) == (
            message["content"],
            [call["function"]["arguments"] for call in message["tool_calls"]],
        )
        assert events[-1]["usage"]["completion_tokens"] == said["usage"]["completion_tokens"]
        return
    if path == RESPONSES:
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        done = events[-1]["response"]
        assert [item["type"] for item in done["output"]] == ["message", *["function_call"] * 2]
        assert done["usage"]["output_tokens"] == said["usage"]["output_tokens"]
        arguments = "".join(e["delta"] for e in events if e["type"].endswith("arguments.delta"))
        assert arguments == "".join(item["arguments"] for item in said["output"][1:])
    else:
        arguments = "".join(e["delta"].get("partial_json", "") for e in events if "delta" in e)
        assert arguments == '{"sum": 30}{"sum": 50}'
        assert events[-2]["usage"]["output_tokens"] == said["usage"]["output_tokens"]
        assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_what_came_is_kept_byte_for_byte() -> None:
    """A request is kept as it was sent: path, headers and bytes."""
    with Provider([LONG]) as provider, connected(provider) as connection:
        raw = b'{"model":  "m", "messages": []}'
        connection.request("POST", CHAT, raw, {"Authorization": "Bearer none"})
        connection.getresponse().read()
        (kept,) = provider.requests
    assert (kept.raw, kept.path, kept.body["model"]) == (raw, CHAT, "m")
    assert kept.headers["authorization"] == "Bearer none"


def test_an_error_has_the_status_headers_and_body_it_was_given() -> None:
    """A status is sent with its headers; its body is the protocol's own unless there is one."""
    script = [Status(status=529, headers={"Retry-After": "7"}), Status(status=503, body=b"<p>")]
    with Provider(script) as provider, connected(provider) as connection:
        connection.request("POST", MESSAGES, json.dumps(ASKED[MESSAGES]))
        response = connection.getresponse()
        kind = json.loads(response.read())["error"]["type"]
        assert (response.status, response.headers["retry-after"]) == (529, "7")
        assert kind == "overloaded_error"
        assert post(provider, CHAT) == (503, b"<p>")


def test_a_closed_connection_carries_no_byte() -> None:
    """A client sees its connection closed before anything is said."""
    with Provider([Close()]) as provider, pytest.raises(http.client.RemoteDisconnected):
        post(provider, CHAT)


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_answer_breaks_off_in_its_middle(path: str, *, stream: bool) -> None:
    """An answer that is cut is less than what HTTP promised, after what was asked for was sent."""
    body = streamed(path) if stream else ASKED[path]
    with (
        Provider([Cut(answer=LONG, events=2)]) as provider,
        pytest.raises(http.client.IncompleteRead) as broken,
    ):
        post(provider, path, body)
    if stream:
        assert broken.value.partial.count(b"data: ") == 2
    else:
        assert broken.value.partial


def test_a_stream_may_end_early_as_if_all_was_said() -> None:
    """A clean cut is a stream that HTTP takes for whole."""
    with Provider([Cut(answer=LONG, events=2, clean=True)]) as provider:
        status, raw = post(provider, CHAT, streamed(CHAT))
    assert (status, raw.count(b"data: "), b"[DONE]" in raw) == (200, 2, False)


@pytest.mark.parametrize("path", ASKED)
def test_a_stream_tells_of_an_error_in_its_middle(path: str) -> None:
    """An error comes as the protocol has it, after so many events, and ends the stream."""
    with Provider([ErrorEvent(answer=LONG, events=3)]) as provider:
        _, raw = post(provider, path, streamed(path))
    events = told(raw)
    assert len(events) == 4
    assert "Overloaded" in json.dumps(events[-1])


def test_garbage_is_no_answer() -> None:
    """What is no JSON goes out with a status of 200, whole or as an event."""
    script = [Garbage(data=b"{"), Garbage(data=b"{", answer=LONG, events=1)]
    with Provider(script) as provider:
        assert post(provider, CHAT) == (200, b"{")
        _, raw = post(provider, CHAT, streamed(CHAT))
    assert raw.endswith(b"data: {\n\n")


def test_what_hangs_waits_for_its_release() -> None:
    """Nothing comes before the release, and the answer after it; others are served meanwhile."""
    script: dict[str, Script] = {"slow": [Hang(answer=LONG)], "fast": [BATCH]}
    key = "model"
    with (
        Provider(script, conversation=lambda request: request.body[key]) as provider,
        ThreadPoolExecutor(1) as pool,
    ):
        slow = pool.submit(post, provider, CHAT, {**ASKED[CHAT], key: "slow"})
        provider.wait(1)
        assert post(provider, CHAT, {**ASKED[CHAT], key: "fast"})[0] == 200
        assert not slow.done()
        provider.release()
        assert slow.result(30)[0] == 200


def test_a_hang_ends_with_the_deadline() -> None:
    """What nobody releases is closed when the time is over."""
    with Provider([Hang()], deadline_s=0.05) as provider, pytest.raises(ConnectionError):
        post(provider, CHAT)


def test_each_conversation_has_its_own_place_in_the_script() -> None:
    """Conversations that are held at once each get the script from its begin."""
    with Provider([BATCH, LONG], conversation=lambda request: request.model) as provider:
        gate = threading.Barrier(4)

        def converse(name: str) -> list[str]:
            gate.wait(30)
            answers = [post(provider, CHAT, {**ASKED[CHAT], "model": name})[1] for _ in range(2)]
            return [json.loads(raw)["choices"][0]["finish_reason"] for raw in answers]

        with ThreadPoolExecutor(4) as pool:
            ended = list(pool.map(converse, "abcd"))
    assert ended == [["tool_calls", "stop"]] * 4


def test_a_script_that_is_over_is_a_problem() -> None:
    """A request that has no answer gets one that nobody retries, and is told of at the end."""
    seen: list[int] = []
    with pytest.raises(ProviderError, match="0 answers"), Provider([]) as provider:
        seen.append(post(provider, CHAT)[0])
    assert seen == [400]


def test_a_broken_script_is_a_problem() -> None:
    """An error in a script does not stay in the server's thread."""

    def model(request: Request) -> Answer:
        raise LookupError(request.model)

    with pytest.raises(ProviderError, match="LookupError"), Provider(model) as provider:
        post(provider, CHAT)


def test_requests_are_counted_and_bounded() -> None:
    """After so many requests no more are answered."""
    with Provider(lambda _: LONG, requests_max=2, strict=False) as provider:
        assert [post(provider, CHAT)[0] for _ in range(3)] == [200, 200, 400]
        assert len(provider.problems) == 1


def test_an_unknown_path_is_a_problem() -> None:
    """A path that is not spoken gets 404."""
    with Provider([], strict=False) as provider, connected(provider) as connection:
        connection.request("GET", "/v1/models")
        assert connection.getresponse().status == 404
        assert provider.problems


def test_a_body_that_is_no_object_is_a_problem() -> None:
    """What is no JSON object is kept as it came, read as an empty one, and told of at the end."""
    with Provider([LONG], strict=False) as provider, connected(provider) as connection:
        connection.request("POST", CHAT, b"[1,")
        assert connection.getresponse().read()
        assert (provider.requests[0].raw, provider.requests[0].body) == (b"[1,", {})
        assert len(provider.problems) == 1
