"""The key of a journal's redaction, in a file of its own beside it.

Keeps: one key for all processes on a journal, made by whoever needs it first; nobody but the
owner of the file may read it. Who has the journal and not the key cannot try out what a redacted
value may have been.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from undercroft.errors import StoreError

KEY_BYTES = 32


def key_path(path: str) -> str:
    """Return the path of the key of the journal at `path`."""
    return f"{path}-key"


def key_of(path: str) -> bytes:
    """Return the key of the journal at `path`; make one where there is none.

    Raises:
        StoreError: It cannot be read or made, or is no key.
    """
    place = Path(key_path(path))
    try:
        if not place.exists():
            _make(place)
        key = place.read_bytes()
    except OSError as error:
        raise StoreError(
            str(place), f"{error.strerror or error}", "Check the permissions of its folder."
        ) from error
    if len(key) != KEY_BYTES:
        raise StoreError(
            str(place),
            f"it holds {len(key)} bytes, and a key has {KEY_BYTES}",
            "Restore it from a backup; without it equal secrets look different from now on.",
        )
    return key


def _make(place: Path) -> None:
    """Put a new key there, unless another process was faster."""
    draft = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, secrets.token_bytes(KEY_BYTES))
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        with suppress(FileExistsError):
            os.link(draft, place)
    finally:
        draft.unlink()
