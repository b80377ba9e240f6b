"""A collector on this machine: takes OTLP over HTTP as protobuf, and gives it back as OTLP JSON."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_BODIES: dict[str, type[Message]] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


class Collector:
    """What was exported, request by request.

    Args:
        status: What every request is answered with.
        hangs: Whether requests are not answered until the collector is closed.

    Attributes:
        traces: Requests as OTLP JSON, as a collector's file exporter writes them: one a line.
        metrics: As `traces`.
        headers: Of every request.
    """

    def __init__(self, *, status: int = 200, hangs: bool = False) -> None:
        self.traces: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._over = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.headers.append(dict(self.headers))
                if hangs:
                    collector._over.wait(60)
                if status == 200:
                    collector._keep(self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its base's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Answer what hangs, and listen no more."""
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _keep(self, path: str, body: bytes) -> None:
        message = _BODIES[path]()
        message.ParseFromString(body)
        kept = self.traces if path == "/v1/traces" else self.metrics
        kept.append(MessageToDict(message))

    def spans(self) -> list[dict[str, Any]]:
        """Return all spans as they came."""
        return [
            span
            for request in self.traces
            for resource in request["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def points(self, metric: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the last points of a metric, each with its attributes."""
        found: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for one in _metrics(self.metrics):
            if one["name"] == metric:
                held = one.get("sum") or one.get("histogram") or {}
                found = [(attributes(point), point) for point in held["dataPoints"]]
        return found


def attributes(held: dict[str, Any]) -> dict[str, Any]:
    """Return OTLP's attributes as a plain object."""
    return {
        pair["key"]: next(iter(pair["value"].values()), None) for pair in held.get("attributes", [])
    }


def _metrics(requests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for request in requests:
        for resource in request["resourceMetrics"]:
            for scope in resource["scopeMetrics"]:
                yield from scope["metrics"]
