"""Secrets under a key: what stands in a journal so that a turn can go on in another process.

Keeps: who has the key gets back what was sealed, or nothing where a byte was changed; who has not
learns no more than whether two values are the same, and how long they are.
Source: the synthetic initialisation vector of Rogaway and Shrimpton, "Deterministic Authenticated
Encryption", 2006 (as in RFC 5297), over BLAKE2b with a key (RFC 7693) as the pseudorandom function:
its hash of the value is both the check and where the key stream begins.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest

_CHECK_BYTES = 16
_BLOCK_BYTES = 64
# What each part of the key is for, so that none stands for another.
_FOR_CHECK, _FOR_STREAM = b"undercroft-check", b"undercroft-strm1"


def seal(value: bytes, key: bytes) -> bytes:
    """Return `value` so that only who has `key` can read it."""
    check = _check(value, key)
    return check + _mixed(value, check, key)


def unseal(sealed: bytes, key: bytes) -> bytes | None:
    """Return what was sealed under `key`; None where it was not, or was changed since."""
    check, mixed = sealed[:_CHECK_BYTES], sealed[_CHECK_BYTES:]
    value = _mixed(mixed, check, key)
    return value if compare_digest(_check(value, key), check) else None


def _check(value: bytes, key: bytes) -> bytes:
    return blake2b(value, digest_size=_CHECK_BYTES, key=key[:64], person=_FOR_CHECK).digest()


def _mixed(value: bytes, check: bytes, key: bytes) -> bytes:
    """Return `value` and the key stream that begins at `check`, bit by bit one or the other."""
    blocks = -(-len(value) // _BLOCK_BYTES)
    stream = b"".join(
        blake2b(
            check + block.to_bytes(8, "big"),
            digest_size=_BLOCK_BYTES,
            key=key[:64],
            person=_FOR_STREAM,
        ).digest()
        for block in range(blocks)
    )
    mixed = int.from_bytes(value, "big") ^ int.from_bytes(stream[: len(value)], "big")
    return mixed.to_bytes(len(value), "big")
