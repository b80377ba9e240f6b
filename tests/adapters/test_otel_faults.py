"""A collector that is slow, absent, broken or hanging costs a turn nothing, and the end a bound."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tests.adapters.collector import Collector, attributes
from undercroft.adapters.otel import OTelExporter
from undercroft.adapters.otel.drawing import draw
from undercroft.adapters.otel.drawn import TEXT_CHARS_MAX
from undercroft.doctor.importers.otlp import FORMAT
from undercroft.errors import SettingError
from undercroft.layers.observability.state import fold
from undercroft.model import genai
from undercroft.model.event import (
    AnyEvent,
    StepEnded,
    StepStarted,
    TurnEnded,
    TurnResumed,
    TurnStarted,
    TurnStopped,
    encode_frame,
)
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import ErrorClass, Failure, StepStatus
from undercroft.model.turn import Told

SECRET = "the-key-of-ada"  # noqa: S105  planted
HOSTILE = "\ud800 \x00 \x1b[31m <script>alert(1)</script> \u202e"


def packed(value: Any) -> msgspec.Raw:
    """Return a value as an event holds it."""
    return msgspec.Raw(msgspec.msgpack.encode(value))


def events_of(turn_id: str, name: str = "get", value: Any = "v", given_: Any = None) -> list[Any]:
    """Return the events of a turn of one step that failed, after one that went well."""
    wrong = Failure("LookupError", name, ErrorClass.PERMANENT)
    return [
        TurnStarted(turn_id, "handler", "app:assist", b"", packed({}), None, 100.0),
        StepStarted(1, name, "tool", 100.1, args=packed(given_ or {}), claims=(("read", name),)),
        StepEnded(1, StepStatus.OK, 0.2, packed(value)),
        StepStarted(2, name, "tool", 100.4),
        StepEnded(2, StepStatus.FAILED, 0.1, error=wrong),
        TurnEnded(TurnStatus.DONE, 101.0, packed(value)),
    ]


def told(turn_id: str, *, pad: int = 0) -> Told:
    """Return what an exporter is told of a turn."""
    frames = [encode_frame(events_of(turn_id, value="v" * pad))]
    return Told(turn_id, tuple(frames))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Wait for the threads of a test: what they do would be the next one's."""
    yield
    for thread in threading.enumerate():
        if thread.name == "undercroft-otel":
            thread.join(30)


class Held(SpanExporter):
    """Takes spans only once it is let."""

    def __init__(self) -> None:
        self.let, self.asked = threading.Event(), threading.Event()
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Wait, and take them."""
        self.asked.set()
        self.let.wait(30)
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


async def test_a_collector_that_hangs_costs_a_turn_nothing_and_closing_its_bound() -> None:
    """While a request hangs turns are taken at once; closing waits for its time and no longer."""
    with Collector(hangs=True) as collector:
        exporter = OTelExporter(collector.endpoint, queue_max=100)
        exporter.take(told("t-0"))
        began = time.monotonic()
        for place in range(1, 1000):
            exporter.take(told(f"t-{place}"))
        took_s = time.monotonic() - began
        began = time.monotonic()
        await exporter.close(0.2)
        closed_s = time.monotonic() - began
    # With much room, since the machine does other things too: a request hangs for a minute.
    assert took_s < 3
    assert 0.15 < closed_s < 3
    assert exporter.dropped >= 899


async def test_a_collector_that_is_gone_is_not_waited_for() -> None:
    """Once a sending has failed, closing does not try again, and what waits is counted as lost."""
    with Collector() as collector:
        endpoint = collector.endpoint
    exporter = OTelExporter(endpoint, timeout_s=0.1)
    exporter.take(told("t-1"))
    while not exporter.dropped:
        time.sleep(0.01)  # noqa: ASYNC251  for the thread, and nothing else runs here
    exporter.take(told("t-2"))
    began = time.monotonic()
    await exporter.close(20)
    assert time.monotonic() - began < 10
    assert exporter.dropped == 2


async def test_a_collector_that_refuses_is_counted_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever fails is said when it begins and at the end, and no line has a header's value."""
    caplog.set_level(logging.DEBUG)
    with Collector(status=400) as collector:
        exporter = OTelExporter(collector.endpoint, headers={"x-key": SECRET})
        for place in range(50):
            exporter.take(told(f"t-{place}"))
        await exporter.close(5)
        sent = collector.headers
    assert exporter.dropped == 50
    assert sent[0]["x-key"] == SECRET
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert {line.name for line in lines} == {"undercroft.otel"}
    assert len(lines) <= 2
    assert SECRET not in caplog.text
    assert SECRET not in repr(exporter)


async def test_what_does_not_fit_the_queue_is_dropped_and_measured() -> None:
    """A queue has a length and a size; what is beyond is counted, as a number and as a metric."""
    held, reader = Held(), InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    exporter = OTelExporter(
        queue_max=3, queue_bytes_max=15_000, span_exporter=held, meter_provider=meters
    )
    exporter.take(told("t-0"))
    assert held.asked.wait(10)
    for place in range(1, 6):
        exporter.take(told(f"t-{place}"))
    exporter.take(told("t-large", pad=20_000))
    assert exporter.dropped == 3
    held.let.set()
    await exporter.close(10)
    exporter.take(told("t-late"))
    assert exporter.dropped == 4
    assert len([name for name in held.names if name.startswith(genai.INVOKE_AGENT)]) == 4
    data = reader.get_metrics_data()
    assert data is not None
    counted = {
        metric.name: sum(getattr(point, "value", 0) for point in metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert counted[genai.UNTOLD] == 3
    assert counted[genai.STEPS] == 8
    meters.shutdown()


async def test_a_turn_of_which_something_was_dropped_is_told_whole_next_time() -> None:
    """What was told before is not told again, unless it was lost."""
    held = Held()
    exporter = OTelExporter(queue_max=1, span_exporter=held, meter_provider=MeterProvider())
    exporter.take(told("t-0"))
    assert held.asked.wait(10)
    events = events_of("t-1")
    first = encode_frame([*events[:3], TurnStopped("asked to", 100.3)])
    whole = (first, encode_frame(events[3:]))
    exporter.take(told("t-2"))
    exporter.take(Told("t-1", (first,)))
    assert exporter.dropped == 1
    held.let.set()
    while len(held.names) < 6:
        time.sleep(0.005)  # noqa: ASYNC251  for the thread, and nothing else runs here
    held.names.clear()
    exporter.take(Told("t-1", whole, 1))
    while len(held.names) < 3:
        time.sleep(0.005)  # noqa: ASYNC251  as above
    assert len(held.names) == 3
    held.names.clear()
    exporter.take(Told("t-1", whole, 1))
    await exporter.close(10)
    assert len(held.names) == 2


async def test_what_a_killed_process_did_is_told_by_the_next_one() -> None:
    """A life that nobody told of is told with the next, however old its frames are."""
    held = Held()
    held.let.set()
    exporter = OTelExporter(span_exporter=held, meter_provider=MeterProvider())
    events = events_of("t-1")
    whole = (encode_frame(events[:3]), encode_frame([TurnResumed(2, 100.3), *events[3:]]))
    exporter.take(Told("t-1", whole, 1))
    await exporter.close(10)
    assert len(held.names) == 3


async def test_frames_that_cannot_be_read_are_one_turn_lost() -> None:
    """A turn of another version's journal is counted, and the next one is told."""
    held = Held()
    held.let.set()
    exporter = OTelExporter(span_exporter=held, meter_provider=MeterProvider())
    exporter.take(Told("t-1", (b"\xff\xff",)))
    exporter.take(told("t-2"))
    await exporter.close(10)
    assert exporter.dropped == 1
    assert len(held.names) == 3


async def test_hostile_text_goes_out_and_comes_back() -> None:
    """Text that is no Unicode, is markup or has no end is sent as text, and bounded."""
    huge = "x" * (2 * TEXT_CHARS_MAX)
    with Collector() as collector:
        exporter = OTelExporter(collector.endpoint, content=True)
        hostile = events_of("t-1", value=[HOSTILE.replace("\ud800", ""), huge])
        hostile[1] = msgspec.structs.replace(hostile[1], name=HOSTILE.replace("\ud800", ""))
        exporter.take(Told("t-1\ud800", (encode_frame(hostile),)))
        await exporter.close(10)
        spans = collector.spans()
        lines = collector.traces
    assert exporter.dropped == 0
    assert len(attributes(spans[0])[genai.TOOL_RESULT]) <= TEXT_CHARS_MAX
    assert attributes(spans[0])[genai.CUT] is True
    case = FORMAT.case([one for line in lines for one in FORMAT.records(line)], "place")
    assert "<script>" in case.calls[0].name


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(
    name=st.text(max_size=20),
    value=PLAIN,
    given_=PLAIN,
    at=st.floats(),
    took_s=st.floats(),
    data=st.data(),
)
def test_whatever_a_journal_holds_becomes_spans(  # noqa: PLR0913, PLR0917  what a step has
    name: str, value: Any, given_: Any, at: float, took_s: float, data: st.DataObject
) -> None:
    """Any step becomes a span whose attributes the wire can hold, whatever its facts are."""
    kind = data.draw(st.sampled_from(["tool", "model", "step", "approval"]))
    status = data.draw(st.sampled_from(StepStatus))
    try:
        events: list[AnyEvent] = [
            TurnStarted("t-1", "handler", name, b"", packed({}), None, at),
            StepStarted(1, name, kind, at, args=packed(given_), claims=((name, name),)),
            StepEnded(1, status, took_s, packed(value)),
        ]
    except OverflowError:
        return  # an integer that no journal holds
    trace = fold(events)
    assert trace is not None
    step, root = draw(trace, events, content=True)
    assert step.parent_id == root.span_id
    assert root.trace_id == step.trace_id != 0
    assert 0 <= step.began_ns <= step.ended_ns < 1 << 64
    assert 0 <= root.began_ns <= root.ended_ns < 1 << 64
    for one in (*step.attributes.values(), *root.attributes.values()):
        for part in one if isinstance(one, tuple) else (one,):
            assert isinstance(part, str | int | float)
            assert not isinstance(part, str) or part.encode("utf-8") is not None
    if genai.TOOL_ARGUMENTS in step.attributes:
        json.loads(str(step.attributes[genai.TOOL_ARGUMENTS]))


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenTelemetry, the error says which extra brings it."""
    monkeypatch.delitem(sys.modules, "undercroft.adapters.otel.sending", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingError, match=r"pip install 'undercroft\[otel\]'"):
        OTelExporter()


@pytest.mark.parametrize(
    "setting",
    [
        {"endpoint": f"user:{SECRET}@host"},
        {"queue_max": 0},
        {"queue_bytes_max": -1},
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
        {"metrics_every_s": float("inf")},
    ],
)
def test_a_bad_setting_is_told_where_it_is_written(setting: dict[str, Any]) -> None:
    """Each setting has its range, and an error shows no secret."""
    with pytest.raises(SettingError) as caught:
        OTelExporter(**setting)
    assert SECRET not in str(caught.value)


def test_where_to_is_as_the_variables_of_the_sdk_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an endpoint of its own an exporter goes where the environment says."""
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "billing")
        exporter = OTelExporter()
        exporter.take(told("t-1"))
        while not collector.traces:
            time.sleep(0.005)
        resource = collector.traces[0]["resourceSpans"][0]["resource"]
        asyncio.run(exporter.close(10))
    assert attributes(resource)["service.name"] == "billing"
