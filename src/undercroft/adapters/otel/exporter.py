"""The exporter that a runtime is given: turns in, spans and metrics out, never in a turn's way.

Keeps: `take` only puts a turn into a queue of bounded length and size; one thread of its own does
the rest. What cannot be kept, or what a collector does not take, is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from undercroft.adapters.otel.drawing import draw, numbers_in
from undercroft.adapters.otel.drawn import Attributes, Drawn
from undercroft.adapters.otel.metering import Measure, measure
from undercroft.errors import SettingError
from undercroft.layers.observability.state import fold
from undercroft.model import genai
from undercroft.model.event import (
    AnyEvent,
    TurnEnded,
    TurnParked,
    TurnStopped,
    decode_frames,
)
from undercroft.model.turn import Told

if TYPE_CHECKING:
    from undercroft.adapters.otel.sending import Sender

_log = logging.getLogger("undercroft.otel")
_REMEMBERED_MAX = 1_024
_POLL_S = 0.005
_THREAD = "undercroft-otel"
# What Python keeps of each frame besides its content.
_FRAME_BYTES = 48
# What goes together, so that a slow collector is asked less often.
_BATCH_MAX, _BATCH_BYTES = 64, 1 << 20
# How long it works at a time while turns run, and rests then.
_WORK_S, _REST_S = 0.0003, 0.0003
# How long nothing is sent after it failed, at first and at most.
_PAUSE_S, _PAUSE_MAX_S = 1.0, 60.0
_SPEAK_S = 60.0


class OTelExporter:
    """Tells a collector of every turn, by OTLP over HTTP.

    A turn is a trace: one span for the turn, one under it for each step. It is told when it
    parks, stops or ends; told again, it is the same trace with the same spans.

        uc.Runtime(…, exporters=[OTelExporter()])

    Args:
        endpoint: Where the collector listens, such as `http://localhost:4318`; if left out, as
            the variables `OTEL_EXPORTER_OTLP_…` say, or there.
        content: Whether to tell arguments, results, prompts and replies as well.
        queue_max: Turns that may wait to be told; of more, the newest are dropped.
        queue_bytes_max: Size of the journals of the turns that may wait.
        headers: That go with every request; if left out, as the variables say.
        timeout_s: Seconds that one request may take, all its attempts included.
        metrics_every_s: Seconds from one telling of the metrics to the next.
        span_exporter: An exporter of the SDK that takes the spans instead.
        meter_provider: A provider of the SDK that takes the measurements instead.

    Raises:
        SettingError: OpenTelemetry is not installed, or a setting is outside its range.
    """

    def __init__(  # noqa: PLR0913  each keyword is one setting
        self,
        endpoint: str | None = None,
        *,
        content: bool = False,
        queue_max: int = 1_000,
        queue_bytes_max: int = 64 << 20,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        metrics_every_s: float = 60.0,
        span_exporter: Any = None,
        meter_provider: Any = None,
    ) -> None:
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise SettingError("endpoint", _place(endpoint), "a URL that begins with http or https")
        for name, value in (("queue_max", queue_max), ("queue_bytes_max", queue_bytes_max)):
            if value < 1:
                raise SettingError(name, value, "at least 1")
        for name, seconds in (("timeout_s", timeout_s), ("metrics_every_s", metrics_every_s)):
            if not 0 < seconds < threading.TIMEOUT_MAX:
                raise SettingError(name, seconds, "above 0")
        self._sender = _sender(endpoint, headers, timeout_s, span_exporter, meter_provider)
        self._content, self._every_s = content, metrics_every_s
        self._queue_max, self._bytes_max = queue_max, queue_bytes_max
        self._queue: deque[tuple[Told, int]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        # That no more is taken; that nobody waits any longer for what was.
        self._closing, self._over = threading.Event(), threading.Event()
        self._worked_from = 0.0
        # Sendings that failed one after another, and when to try again.
        self._failures, self._again_at = 0, 0.0
        # Tellings that were dropped; of them, those in the metric, and those in the log.
        self._dropped = self._counted = self._spoken = 0
        self._spoke_at = -_SPEAK_S
        # Turns of which something was dropped: whatever is told of them next is told whole.
        self._missed: OrderedDict[str, None] = OrderedDict()

    @property
    def dropped(self) -> int:
        """How many tellings of turns were dropped, for whatever reason."""
        return self._dropped

    def take(self, told: Told) -> None:
        """Queue a turn to be told. Never blocks, never raises."""
        size = sum(map(len, told.frames)) + _FRAME_BYTES * len(told.frames)
        with self._lock:
            full = len(self._queue) >= self._queue_max or self._bytes + size > self._bytes_max
            if full or self._closing.is_set():
                self._drop(told.turn_id)
                return
            self._queue.append((told, size))
            self._bytes += size
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=_THREAD, daemon=True)
                self._thread.start()
        self._wake.set()

    async def close(self, timeout_s: float = 5.0) -> None:
        """Tell what is left, within `timeout_s`; what is left then is dropped."""
        ends = time.monotonic() + max(timeout_s, 0.0)
        with self._lock:
            again = self._closing.is_set()
            self._closing.set()
        self._wake.set()
        # By the clock of the machine: that of the loop may be a virtual one.
        while self._busy() and time.monotonic() < ends:  # noqa: ASYNC110  a thread's end, no task's
            await asyncio.sleep(_POLL_S)
        with self._lock:
            for told, _ in self._queue:
                self._drop(told.turn_id)
            self._queue.clear()
            self._bytes = 0
        self._over.set()
        if not again:
            self._speak(last=True)
            # Letting go of a connection that hangs may take its time.
            threading.Thread(target=self._sender.stop, name=_THREAD, daemon=True).start()

    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        due = time.monotonic() + self._every_s
        measured = False
        while True:
            self._closing.wait(self._again_at - time.monotonic())
            if self._closing.is_set() and self._failures:
                break  # whoever closes does not wait for a collector that is gone
            batch = self._gather()
            if batch:
                self._tell(batch)
                measured = True
            elif self._closing.is_set():
                break
            else:
                self._wake.wait(max(due - time.monotonic(), 0.0) if measured else None)
                self._wake.clear()
            if measured and time.monotonic() >= due:
                self._flush()
                measured, due = False, time.monotonic() + self._every_s
            self._speak()
        if not self._failures and not self._over.is_set():
            self._flush()

    def _gather(self) -> list[Told]:
        """Return the turns that go together next."""
        batch: list[Told] = []
        room = _BATCH_BYTES
        with self._lock:
            while self._queue and len(batch) < _BATCH_MAX and room > 0:
                told, size = self._queue.popleft()
                self._bytes -= size
                room -= size
                batch.append(told)
        return batch

    def _tell(self, batch: list[Told]) -> None:
        spans: list[Drawn] = []
        drawn: list[str] = []
        for told in batch:
            try:
                spans += self._drawn(told)
            except Exception as error:  # noqa: BLE001  a turn that cannot be told is one, not all
                _log.debug("turn %s cannot be told: %s", told.turn_id, type(error).__name__)
                with self._lock:
                    self._drop(told.turn_id)
            else:
                drawn.append(told.turn_id)
        if not drawn or self._sent(spans):
            self._failures = 0
            return
        self._failures += 1
        pause_s = min(_PAUSE_S * 2 ** (self._failures - 1), _PAUSE_MAX_S)
        self._again_at = time.monotonic() + pause_s
        with self._lock:
            for turn_id in drawn:
                self._drop(turn_id)

    def _drawn(self, told: Told) -> list[Drawn]:
        """Return what is new of a turn as spans, and measure it."""
        events = decode_frames(told.frames)
        trace = fold(events)
        if trace is None:
            return []
        with self._lock:
            whole = told.turn_id in self._missed
            self._missed.pop(told.turn_id, None)
        earlier = events[: _told_before(events, len(decode_frames(told.frames[: told.new_from])))]
        news = None if whole or not earlier else numbers_in(events[len(earlier) :])
        self._rest()
        self._sender.record(measure(trace, fold(earlier) if earlier else None))
        self._rest()
        spans: list[Drawn] = []
        for one in draw(trace, events, content=self._content, only=news):
            spans.append(one)
            self._rest()
        return spans

    def _sent(self, spans: list[Drawn]) -> bool:
        try:
            return self._sender.send(spans, self._rest)
        except Exception as error:  # noqa: BLE001  no collector is a reason to stop telling
            _log.debug("spans could not be told: %s", type(error).__name__)
            return False

    def _rest(self) -> None:
        """Let other threads work: Python switches between them only every few milliseconds.

        Whoever waits for an event loop would wait as long at each of its steps.
        """
        if time.monotonic() - self._worked_from > _WORK_S and not self._closing.is_set():
            time.sleep(_REST_S)
            self._worked_from = time.monotonic()

    def _flush(self) -> None:
        untold = self._dropped - self._counted
        try:
            if untold:
                self._sender.record([Measure(genai.UNTOLD, untold, Attributes())])
                self._counted += untold
            self._sender.flush()
        except Exception as error:  # noqa: BLE001  as above
            _log.debug("metrics could not be told: %s", type(error).__name__)

    # ------------------------------------------------------------------ what is lost

    def _drop(self, turn_id: str) -> None:
        """Count a telling that is lost; the lock is held."""
        self._dropped += 1
        self._missed[turn_id] = None
        while len(self._missed) > _REMEMBERED_MAX:
            self._missed.popitem(last=False)

    def _speak(self, *, last: bool = False) -> None:
        """Say how many were dropped: once a while, and at the end."""
        now = time.monotonic()
        if self._dropped == self._spoken or (not last and now - self._spoke_at < _SPEAK_S):
            return
        self._spoke_at, self._spoken = now, self._dropped
        _log.warning(
            "%d tellings of turns were dropped so far: the queue was full, or the collector did "
            "not take them. The journal has all of them: undercroft turns.",
            self._dropped,
        )


def _told_before(events: Sequence[AnyEvent], old: int) -> int:
    """Return how many of the first `old` events were told: up to where a turn parked or stopped.

    A process that was killed told nothing of its life.
    """
    for place in range(old, 0, -1):
        if isinstance(events[place - 1], TurnParked | TurnStopped | TurnEnded):
            return place
    return 0


def _sender(
    endpoint: str | None,
    headers: Mapping[str, str] | None,
    timeout_s: float,
    spans: Any,
    meters: Any,
) -> Sender:
    try:
        from undercroft.adapters.otel.sending import Sender  # noqa: PLC0415  needs an extra
    except ImportError as error:
        raise SettingError(
            "exporter",
            "OTelExporter",
            f"installed ({error}): pip install 'undercroft[otel]'",
        ) from error
    return Sender(endpoint, headers, timeout_s, spans, meters)


def _place(url: str) -> str:
    """Return a URL without what may be secret in it."""
    scheme, found, _ = url.partition("://")
    return f"{scheme}://…" if found else "(no URL)"
