"""Fingerprints: the same input gives the same few bytes, whatever process computes them.

Source: canonical form is msgpack with sorted keys; BLAKE2b (RFC 7693) with 16 bytes.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

_canonical = msgspec.msgpack.Encoder(order="deterministic").encode

FINGERPRINT_BYTES = 16


def fingerprint(value: Any) -> bytes:
    """Return 16 bytes that stand for `value`, independent of the order of its keys.

    Raises:
        TypeError: `value` is not plain data.
    """
    return blake2b(_canonical(value), digest_size=FINGERPRINT_BYTES).digest()


def idempotency_key(turn_id: str, name: str, fp: bytes | None, occurrence: int) -> str:
    """Return the key under which one effect of one turn may be repeated safely.

    It depends on what is done and not on when: a resumed turn finds the same key again.
    """
    parts = (turn_id, name, fp or b"", occurrence)
    return blake2b(_canonical(parts), digest_size=FINGERPRINT_BYTES).hexdigest()
