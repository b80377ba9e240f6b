"""The same input has the same fingerprint, whoever computes it and however it is written down."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from undercroft.model.ids import FINGERPRINT_BYTES, fingerprint, idempotency_key

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=6)
)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


def reordered(value: Any) -> Any:
    """Return the same data with the keys of every mapping the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(part) for part in value] if isinstance(value, list) else value


@given(DATA)
def test_the_order_of_keys_does_not_matter(value: Any) -> None:
    """A mapping is the same however it was filled, at any depth."""
    assert fingerprint(reordered(value)) == fingerprint(value)
    assert len(fingerprint(value)) == FINGERPRINT_BYTES


@given(DATA, DATA)
def test_other_data_has_another_fingerprint(one: Any, two: Any) -> None:
    """Two values share a fingerprint only if the journal would write them alike."""
    encode = msgspec.msgpack.Encoder(order="deterministic").encode
    assert (fingerprint(one) == fingerprint(two)) == (encode(one) == encode(two))


@given(st.lists(SCALARS, min_size=2, max_size=4))
def test_the_order_of_a_list_does_matter(values: list[Any]) -> None:
    """A list in another order is another input."""
    encode = msgspec.msgpack.encode
    assume(encode(values) != encode(values[::-1]))
    assert fingerprint(values) != fingerprint(values[::-1])


@pytest.mark.parametrize(
    ("one", "two"),
    [(1, 1.0), (1, True), (0, False), ("1", 1), (None, False), ("a", b"a"), ([], {}), ("", None)],
)
def test_types_are_told_apart(one: Any, two: Any) -> None:
    """What Python calls equal, or nearly so, is not the same input."""
    assert fingerprint([one]) != fingerprint([two])


@pytest.mark.parametrize(
    "value", [object(), 1j, 2**64, "\ud800", lambda: 1], ids=lambda v: repr(v)[:8]
)
def test_only_data_has_a_fingerprint(value: Any) -> None:
    """What cannot be written down cannot be told apart either."""
    with pytest.raises((TypeError, OverflowError, UnicodeEncodeError)):
        fingerprint({"deep": [value]})


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    """Neither hash seeds nor anything else of a process enters a fingerprint."""
    code = (
        "from undercroft.model.ids import fingerprint as f\n"
        "print(f({'b': {'x', 'y', 'z'}, 'a': [1, 2.5, None, b'q']}).hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert seen == {fingerprint({"a": [1, 2.5, None, b"q"], "b": {"z", "y", "x"}}).hex() + "\n"}


KEYS = st.tuples(TEXT, TEXT, st.none() | st.binary(max_size=16), st.integers(0, 99))


@given(KEYS, KEYS)
def test_each_effect_has_a_key_of_its_own(
    one: tuple[str, str, bytes | None, int], two: tuple[str, str, bytes | None, int]
) -> None:
    """A key is the same again for the same effect of a turn, and differs for any other."""
    assert idempotency_key(*one) == idempotency_key(*one)
    # No input and an empty one are the same: there was nothing to tell apart.
    same = (one[:2], one[2] or b"", one[3]) == (two[:2], two[2] or b"", two[3])
    assert (idempotency_key(*one) == idempotency_key(*two)) == same
