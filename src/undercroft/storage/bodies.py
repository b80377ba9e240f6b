"""Large parts of frames, kept once: by the hash of their content, and compressed.

Keeps: `unpack` gives back every byte of what was packed; a body is never written twice, and never
lost as long as a frame names it, since nothing is ever taken out.

A frame that is small stays as it is. Of a larger one, each long field of an event and each long
text within such a field is replaced by a name, its hash; what is left is compressed where that
helps. A packed frame begins with a byte that no msgpack document begins with.
Source: the idea of content addressing is that of Venti: Quinlan and Dorward, FAST 2002.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from undercroft.errors import StoreCorruptError

# Frames below this stay as they are: most steps never come here.
FRAME_BYTES_MIN = 768
# What is worth a row of its own, which costs some 40 bytes and a look-up.
FIELD_BYTES_MIN = 384
TEXT_BYTES_MIN = 192
# Larger fields are kept whole: to look into them would hold up the event loop.
LOOK_INTO_BYTES_MAX = 128 << 10
# Above this, speed counts for more than size.
FAST_BYTES_MIN = 64 << 10
SAMPLE_BYTES, SHRINKS = 16 << 10, 0.95

_HASH_BYTES = 16
# Never the first byte of a msgpack document.
_MARK = 0xC1
_PLAIN, _SQUEEZED = b"\xc1\x00", b"\xc1\x01"
_HEAD_BYTES = 2
# Kinds of names in a packed frame: of a text, of bytes, and of a whole field.
_TEXT, _BYTES, _FIELD = 101, 102, 103
_DEPTH_MAX = 200
_KNOWN_MAX = 20_000
_CACHE_BYTES_MAX = 8 << 20

_fields = msgspec.msgpack.Decoder(list[list[msgspec.Raw]]).decode
_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode

Fetch = Callable[[bytes], bytes | None]


def name_of(body: bytes) -> bytes:
    """Return the name of a body: 16 bytes of the BLAKE2b of its content."""
    return blake2b(body, digest_size=_HASH_BYTES).digest()


def squeezed(body: bytes) -> bytes:
    """Return a body as it is stored: compressed, or as it is where that would not be smaller."""
    if len(body) >= FAST_BYTES_MIN:
        # What does not shrink at its beginning is an image or the like: it is not worth the time.
        begin = body[:SAMPLE_BYTES]
        if len(zlib.compress(begin, 1)) > SHRINKS * len(begin):
            return b"\x00" + body
        small = zlib.compress(body, 1)
    else:
        small = zlib.compress(body, 6)
    return b"\x01" + small if len(small) < len(body) else b"\x00" + body


def whole(stored: bytes) -> bytes:
    """Return the body that `squeezed` made `stored` of.

    Raises:
        zlib.error: It is damaged.
    """
    return zlib.decompress(stored[1:]) if stored[:1] == b"\x01" else stored[1:]


class Packer:
    """Takes frames apart, and remembers which bodies the journal has already."""

    def __init__(self) -> None:
        # In the order of their last use.
        self._known: dict[bytes, None] = {}

    def pack(self, frame: bytes, bodies: dict[bytes, bytes]) -> bytes:
        """Return what is to be stored of a frame; bodies that are new are added to `bodies`."""
        if len(frame) < FRAME_BYTES_MIN:
            return frame
        found: dict[bytes, bytes] = {}
        try:
            rest = _encode([[_field(one, found) for one in event] for event in _fields(frame)])
            # Only what comes back byte for byte may be taken apart.
            if _whole_of(rest, found.get) != frame:
                return frame
        except (msgspec.MsgspecError, RecursionError, KeyError, ValueError):
            return frame  # of a kind that this version does not know
        packed = _PLAIN + rest
        if len(rest) >= FIELD_BYTES_MIN:
            small = zlib.compress(rest, 6 if len(rest) < FAST_BYTES_MIN else 1)
            if len(small) < len(rest):
                packed = _SQUEEZED + small
        if len(packed) >= len(frame):
            return frame
        for name, body in found.items():
            if name not in bodies and not self._knows(name):
                bodies[name] = squeezed(body)
        return packed

    def note(self, bodies: Iterable[bytes]) -> None:
        """Remember the names of bodies that have been committed."""
        for name in bodies:
            self._known[name] = None
        while len(self._known) > _KNOWN_MAX:
            del self._known[next(iter(self._known))]

    def _knows(self, name: bytes) -> bool:
        if name in self._known:
            del self._known[name]
            self._known[name] = None
            return True
        return False


def _field(field: msgspec.Raw, found: dict[bytes, bytes]) -> Any:
    """Return a field of an event, with what is long in it replaced by names."""
    raw = bytes(field)
    if len(raw) < TEXT_BYTES_MIN:
        return field
    if len(raw) <= LOOK_INTO_BYTES_MAX:
        value = _decode(raw)
        if isinstance(value, str | bytes):
            return _leaf(value, found)
        raw = _encode(_replaced(value, found, 0))
    if len(raw) < FIELD_BYTES_MIN:
        return msgspec.Raw(raw)
    name = name_of(raw)
    found[name] = raw
    return msgspec.msgpack.Ext(_FIELD, name)


def _leaf(value: str | bytes, found: dict[bytes, bytes]) -> Any:
    """Return the name of a long text or of long bytes; of a short one, itself."""
    if len(value) < TEXT_BYTES_MIN:
        return value
    body = value.encode() if isinstance(value, str) else value
    name = name_of(body)
    found[name] = body
    return msgspec.msgpack.Ext(_TEXT if isinstance(value, str) else _BYTES, name)


def _replaced(value: Any, found: dict[bytes, bytes], depth: int) -> Any:
    if isinstance(value, str | bytes):
        return _leaf(value, found)
    if depth >= _DEPTH_MAX:
        return value
    if isinstance(value, dict):
        return {key: _replaced(part, found, depth + 1) for key, part in value.items()}
    if isinstance(value, list):
        return [_replaced(part, found, depth + 1) for part in value]
    return value


def is_packed(stored: bytes) -> bool:
    """Whether a frame was taken apart when it was stored."""
    return bool(stored) and stored[0] == _MARK


def unpack(stored: bytes, fetch: Fetch) -> bytes:
    """Return the frame that was stored, whole.

    Args:
        stored: As `Packer.pack` returned it.
        fetch: Returns the body of a name, or None where there is none.

    Raises:
        StoreCorruptError: A body is missing or damaged.
    """
    if not is_packed(stored):
        return stored
    try:
        rest = stored[_HEAD_BYTES:]
        return _whole_of(zlib.decompress(rest) if stored[1] else rest, fetch)
    except (zlib.error, msgspec.MsgspecError, LookupError, ValueError) as error:
        raise StoreCorruptError(
            "a frame",
            f"a part of it is missing or damaged ({error!r})",
            "Restore the journal from a backup; it was not touched.",
        ) from error


def _whole_of(data: bytes, fetch: Fetch) -> bytes:
    def named(code: int, name: memoryview) -> Any:
        if code not in (_TEXT, _BYTES, _FIELD):
            return msgspec.msgpack.Ext(code, bytes(name))
        body = fetch(bytes(name))
        if body is None:
            raise KeyError(bytes(name).hex())
        if code == _FIELD:
            return msgspec.Raw(_whole_of(body, fetch))
        return body if code == _BYTES else body.decode()

    return _encode(msgspec.msgpack.Decoder(ext_hook=named).decode(data))


class Bodies:
    """What is read of bodies, with those that were used last at hand.

    Args:
        read: Returns what is stored under a name, or None.
    """

    def __init__(self, read: Fetch) -> None:
        self._read = read
        self._cache: dict[bytes, bytes] = {}
        self._cached_bytes = 0

    def fetch(self, name: bytes) -> bytes | None:
        """Return a body.

        Raises:
            zlib.error: It is damaged.
        """
        body = self._cache.pop(name, None)
        if body is not None:
            self._cache[name] = body
            return body
        stored = self._read(name)
        if stored is None:
            return None
        body = whole(stored)
        self._cache[name] = body
        self._cached_bytes += len(body)
        while self._cached_bytes > _CACHE_BYTES_MAX and len(self._cache) > 1:
            self._cached_bytes -= len(self._cache.pop(next(iter(self._cache))))
        return body

    def unpack(self, stored: bytes) -> bytes:
        """Return a frame, whole; errors as of `unpack`."""
        return unpack(stored, self.fetch)
