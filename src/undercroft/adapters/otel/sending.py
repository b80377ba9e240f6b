"""What hands spans and metrics to OpenTelemetry's SDK; the only module here that imports it.

Keeps: one thread uses it. What the SDK's exporters log while they serve it is kept back: a line for
each batch that a dead collector does not take would be many, and may show where to and with what.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from opentelemetry import context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from undercroft.adapters.otel.drawn import Drawn
from undercroft.adapters.otel.metering import Measure
from undercroft.model import genai

# Few, since to write a request down takes the interpreter for as long.
BATCH_SPANS = 64
_NAME = "undercroft"
_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.sdk.metrics._internal.export",
    "urllib3.connectionpool",
)
_COUNTERS = {
    genai.STEPS: "{step}",
    genai.TURNS: "{turn}",
    genai.RETRIES: "{retry}",
    genai.REFUSALS: "{refusal}",
    genai.UNTOLD: "{turn}",
}
_HISTOGRAMS: Mapping[str, tuple[str, Sequence[float]]] = {
    genai.OPERATION_DURATION: ("s", genai.DURATION_BOUNDS),
    genai.TOKEN_USAGE: ("{token}", genai.TOKEN_BOUNDS),
    genai.STEP_WAIT: ("s", genai.DURATION_BOUNDS),
}


class Sender:
    """Spans and metrics, on their way out.

    Args:
        endpoint: Where the collector listens, without the path; None: as the SDK's own
            environment variables say.
        headers: That go with every request.
        timeout_s: Seconds that one request may take, all its attempts included.
        spans: What takes the spans instead; None: OTLP over HTTP.
        meters: What takes the measurements instead; None: OTLP over HTTP.
    """

    def __init__(
        self,
        endpoint: str | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
        spans: SpanExporter | None,
        meters: MeterProvider | None,
    ) -> None:
        base = None if endpoint is None else endpoint.rstrip("/")
        sent = None if headers is None else dict(headers)
        self._spans = spans or OTLPSpanExporter(
            None if base is None else f"{base}/v1/traces", headers=sent, timeout=timeout_s
        )
        self._resource = Resource.create()
        self._scope = InstrumentationScope(_NAME, version(_NAME), genai.SCHEMA_URL)
        self._own: SdkMeterProvider | None = None
        self._metrics: OTLPMetricExporter | None = None
        self._timeout_s = timeout_s
        if meters is None:
            metrics = self._metrics = OTLPMetricExporter(
                None if base is None else f"{base}/v1/metrics", headers=sent, timeout=timeout_s
            )
            # Never by a clock of its own: one thread does all that is done here.
            reader = PeriodicExportingMetricReader(metrics, export_interval_millis=math.inf)
            meters = self._own = SdkMeterProvider(
                [reader], resource=self._resource, shutdown_on_exit=False
            )
        meter = meters.get_meter(_NAME, version(_NAME), genai.SCHEMA_URL)
        self._counters = {
            name: meter.create_counter(name, unit=unit) for name, unit in _COUNTERS.items()
        }
        self._histograms = {
            name: meter.create_histogram(
                name, unit=unit, explicit_bucket_boundaries_advisory=bounds
            )
            for name, (unit, bounds) in _HISTOGRAMS.items()
        }

    def send(self, drawn: Sequence[Drawn], rest: Callable[[], None]) -> bool:
        """Hand over spans; return whether all of them were taken.

        Args:
            drawn: The spans.
            rest: Called every now and then, to let others work.
        """
        with _quietly():
            for at in range(0, len(drawn), BATCH_SPANS):
                spans = []
                for one in drawn[at : at + BATCH_SPANS]:
                    spans.append(self._span(one))
                    rest()
                if self._spans.export(spans) is not SpanExportResult.SUCCESS:
                    return False
                rest()
        return True

    def record(self, measures: Iterable[Measure]) -> None:
        """Take measurements down."""
        for one in measures:
            counter = self._counters.get(one.metric)
            if counter is not None:
                counter.add(one.value, one.attributes)
            else:
                self._histograms[one.metric].record(one.value, one.attributes)

    def flush(self) -> None:
        """Hand over what was measured so far."""
        if self._own is not None:
            with _quietly():
                self._own.force_flush(self._timeout_s * 1000)

    def stop(self) -> None:
        """Give up what is under way; may be called by another thread."""
        with _quietly():
            self._spans.shutdown()
            if self._metrics is not None:
                self._metrics.shutdown()

    def _span(self, drawn: Drawn) -> ReadableSpan:
        def context_of(span_id: int) -> SpanContext:
            return SpanContext(
                drawn.trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
            )

        code = StatusCode.ERROR if drawn.failed else StatusCode.UNSET
        return ReadableSpan(
            drawn.name,
            context_of(drawn.span_id),
            None if drawn.parent_id is None else context_of(drawn.parent_id),
            self._resource,
            dict(drawn.attributes),
            [Event(one.name, dict(one.attributes), one.at_ns) for one in drawn.events],
            [Link(context_of(span_id)) for span_id in drawn.links],
            SpanKind.CLIENT if drawn.client else SpanKind.INTERNAL,
            status=Status(code, drawn.message if drawn.failed else None),
            start_time=drawn.began_ns,
            end_time=drawn.ended_ns,
            instrumentation_scope=self._scope,
        )


class _Silence(logging.Filter):
    """Keeps back what one thread logs."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


@contextmanager
def _quietly() -> Iterator[None]:
    """Have the SDK neither log nor trace what this thread does meanwhile."""
    silence = _Silence()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(silence)
    token = context.attach(context.set_value(_suppression(), True))  # noqa: FBT003  a value
    try:
        yield
    finally:
        context.detach(token)
        for logger in loggers:
            logger.removeFilter(silence)


def _suppression() -> Any:
    """Return the key under which instrumented HTTP clients look whether to keep silent."""
    return getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
