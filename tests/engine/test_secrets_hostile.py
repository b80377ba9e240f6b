"""Text that is made to hold up the redaction does not: its cost grows with its length alone."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from undercroft.layers.observability.policy import Redaction
from undercroft.layers.observability.redaction import Secrets
from undercroft.model.event import StepEnded, encode_frame
from undercroft.model.step import StepStatus

UNITS = {
    "open objects": '{"pin": {',
    "open lists": '"pin": [',
    "names": "token ",
    "escaped": ' token":\\"',
    "quoted": "token': \"ab",
    "sentences": "password is ",
    "tokens of JSON": "eyJ-",
    "parts of tokens": "eyJaaaaaaaa.eyJ",
    "keys": "-----BEGIN PRIVATE KEY-----",
    "addresses": "a://x:",
    "headers": "cookie: ab\n",
    "markup": "<token>",
    "marks": "[redacted:0123456789abcdef]",
}


def cost_s(unit: str, chars: int) -> float:
    """Return the processor time that a text of so many characters costs."""
    value: Any = unit * (chars // len(unit))
    data = msgspec.Raw(msgspec.msgpack.encode(value))
    frame = encode_frame([StepEnded(1, StepStatus.OK, 0.5, data)])
    redactor = Secrets(Redaction(), lambda: b"k" * 32).of(None, "t-1")
    begun = time.process_time()
    redactor.redact(frame)
    return time.process_time() - begun


@pytest.mark.parametrize("name", UNITS)
def test_hostile_text_costs_no_more_than_its_length(name: str) -> None:
    """Eight times as much takes about eight times as long, and never long."""
    small = min(cost_s(UNITS[name], 8_000) for _ in range(3))
    large = min(cost_s(UNITS[name], 64_000) for _ in range(2))
    assert large < max(24 * small, 0.02)
    assert large < 0.5
