"""Secrets leave frames before they are written, equal ones stay equal, and nothing else changes."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from undercroft.errors import SettingError
from undercroft.layers.observability.policy import FIELDS, PATTERNS, Redaction
from undercroft.layers.observability.redaction import Redactor, Secrets
from undercroft.layers.observability.sealing import seal, unseal
from undercroft.model.event import (
    NIL,
    AnyEvent,
    ApprovalDecided,
    StepEnded,
    StepStarted,
    TurnStarted,
    TurnStopped,
    decode_frames,
    encode_frame,
)
from undercroft.model.step import Failure, Refusal, StepStatus

KEY = b"k" * 32
encode = msgspec.msgpack.encode


def made(**settings: Any) -> Redactor:
    """Return a redactor under a fixed key."""
    return Secrets(Redaction(**settings), lambda: KEY).of("s-1", "t-1")


def body(value: Any) -> msgspec.Raw:
    """Return a value as an event holds it."""
    return msgspec.Raw(encode(value))


def frame(value: Any) -> bytes:
    """Return a frame with `value` as the result of a step."""
    return encode_frame([StepEnded(1, StepStatus.OK, 0.5, body(value))])


def value_of(data: bytes) -> Any:
    """Return the result that a frame holds."""
    event, *_ = decode_frames([data])
    assert isinstance(event, StepEnded)
    return msgspec.msgpack.decode(event.value)


# What secrets look like, by how they are found; the text round them tells.
BY_PATTERN = {
    "openai": "sk-proj-Zk3vQ9x7LmN2bTyR4wHs",
    "aws": "AKIAQ7XZ5MPLK2WNV8RT",
    "github": "ghp_x8Kq2mZr5vTn9wLb3yHs7cJd4fGp6aQe1uWi",
    "gitlab": "glpat-x8Kq2mZr5vTn9wLb3y",
    "slack": "xoxb-2718281828-4x9KqZmRvTnW",
    "google": "AIzaSyD4x8Kq2mZr5vTn9wLb3yHs7cJd4fGp6aQ",
    "stripe": "sk_live_4x8Kq2mZr5vTn9wLb3yHs7",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "bearer": "with Bearer q8Zx7LmN2bTyR4wHs9vK",
    "url": "postgres://ada:Zx7LmN2bTyR4@db.example.com/shop",
    "assigned": "the password is Zx7LmN2bTy, thanks",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx7LmN2bTyR4w\n"
    "-----END RSA PRIVATE KEY-----",
}
SECRET_PART = {
    "bearer": "q8Zx7LmN2bTyR4wHs9vK",
    "url": "Zx7LmN2bTyR4",
    "assigned": "Zx7LmN2bTy",
    "pem": "MIIEowIBAAKCAQEAx7LmN2bTyR4w",
}


@pytest.mark.parametrize("kind", BY_PATTERN)
def test_a_secret_of_a_known_make_is_found_in_any_text(kind: str) -> None:
    """Wherever in a text such a secret stands, it is not written, and comes back."""
    text = f"Here it is: {BY_PATTERN[kind]} and so on."
    redactor = made()
    written = redactor.redact(frame({"note": [text]}))
    assert SECRET_PART.get(kind, BY_PATTERN[kind]).encode() not in written
    assert value_of(written)["note"][0].startswith("Here it is: ")
    assert value_of(written)["note"][0].endswith(" and so on.")
    assert redactor.restore([written]) == [frame({"note": [text]})]


@pytest.mark.parametrize(
    "name",
    [
        *(name.strip("*") for name in FIELDS),
        *("apiKey", "X-Api-Key", "db_password", "Client Secret", "newPassword", "AUTHORIZATION"),
    ],
)
def test_what_stands_under_a_secret_name_is_not_written(name: str) -> None:
    """A field's name is enough, however it is spelled and whatever it holds."""
    for secret in ("Zx7LmN2b", 48_291, {"a": ["Zx7LmN2b"]}, ["Zx7LmN2b"], b"Zx7LmN2b"):
        redactor, value = made(), {"rows": [{name: secret, "id": "A1001"}]}
        written = redactor.redact(frame(value))
        assert b"Zx7LmN2b" not in written
        assert value_of(written)["rows"][0]["id"] == "A1001"
        assert value_of(written)["rows"][0][name].startswith("[redacted:")
        assert redactor.restore([written]) == [frame(value)]


@pytest.mark.parametrize(
    "harmless",
    [
        {"input_tokens": 12, "output_tokens": 5, "max_tokens": 9},
        {"next_page_token": "eyJwYWdlIjoyfQ", "page_token": "abc123def456"},
        {"password": None, "api_key": "", "token": False},
        {"parameters": {"properties": {"password": {"type": "string", "title": "Password"}}}},
        "Basic economy tickets cannot be changed; the key is under the mat.",
        "She asked me to keep it secret.",
        "see https://example.com/a:b and ask-a-question-about-this-thing",
        {"author": "Ada", "authorized": True, "secretary": "Ada", "keyboard": "x1"},
    ],
)
def test_what_only_sounds_secret_stays(harmless: Any) -> None:
    """Counts of tokens, places in a list, schemas and ordinary words are written as they are."""
    data = frame(harmless)
    assert made().redact(data) is data or made().redact(data) == data


def test_equal_secrets_look_equal_and_others_do_not() -> None:
    """Under one key the mark of a value is the same in every field, process and journal."""
    first = value_of(made().redact(frame({"password": "Zx7LmN2b", "token": "Zx7LmN2b"})))
    again = value_of(made().redact(frame({"api_key": "Zx7LmN2b", "secret": "other-one-1"})))
    assert first["password"] == first["token"] == again["api_key"] != again["secret"]
    other = Secrets(Redaction(), lambda: b"o" * 32).of("s-1", "t-1")
    assert value_of(other.redact(frame({"password": "Zx7LmN2b"})))["password"] != again["api_key"]


def test_a_secret_that_was_met_is_found_everywhere_after() -> None:
    """Once known, a value is taken out of texts, errors and reasons that do not name it."""
    redactor = made()
    redactor.redact(frame({"password": "Zx7LmN2b"}))
    events: list[AnyEvent] = [
        StepStarted(2, "login", "tool", 1.0, args=body({"text": "with Zx7LmN2b, please"})),
        StepEnded(
            2,
            StepStatus.FAILED,
            0.1,
            error=Failure("LoginError", "Zx7LmN2b was not accepted"),
            refusal=Refusal("a.b", "Zx7LmN2b?", "no Zx7LmN2b", {"given": ["Zx7LmN2b"]}),
        ),
        ApprovalDecided(2, granted=False, by="ada", at=1.0, reason="Zx7LmN2b is in there"),
        TurnStopped("it said Zx7LmN2b", 1.0),
    ]
    written = redactor.redact(encode_frame(events))
    assert b"Zx7LmN2b" not in written
    assert redactor.restore([written]) == [encode_frame(events)]


@pytest.mark.parametrize("secret", ['pa"ss\\w0rd', "pässwörd-1", "line\nbreak-1", "1234567"])
def test_arguments_that_a_model_wrote_as_json_keep_their_spelling(secret: str) -> None:
    """Only the secret changes in text that is an object, so that it comes back byte for byte."""
    for ensure_ascii in (True, False):
        text = '{ "user":"ada",\n "password" :' + json.dumps(secret, ensure_ascii=ensure_ascii)
        text += ', "pin": 4711, "n": [1, 2.50]}'
        redactor = made(fields=("pin",))
        value = {"calls": [{"name": "login", "arguments": text}]}
        written = redactor.redact(frame(value))
        shown = json.loads(value_of(written)["calls"][0]["arguments"])
        assert shown["password"].startswith("[redacted:")
        assert shown["pin"].startswith("[redacted:")
        assert secret.encode() not in written
        assert redactor.restore([written]) == [frame(value)]


def test_who_does_not_know_a_secret_cannot_put_it_back() -> None:
    """Another process sees marks, says which it does not know, and learns values by being told."""
    written = made(sealed=False).redact(
        frame({"password": "Zx7LmN2b", "note": "by sk-proj-Zk3vQ9x7LmN2bTyR4"})
    )
    other = made(sealed=False)
    assert other.restore([written]) == [written]
    assert len(other.unknown([written, written])) == 2
    other.learn(["Zx7LmN2b"])
    assert value_of(other.restore([written])[0])["password"] == "Zx7LmN2b"  # noqa: S105  a made one
    assert len(other.unknown([written])) == 1
    given = made(sealed=False, values=("Zx7LmN2b", "sk-proj-Zk3vQ9x7LmN2bTyR4"))
    assert not given.unknown(given.restore([written]))


def test_who_has_the_key_can_put_a_secret_back() -> None:
    """What is sealed in a frame comes back in another process, and under another key does not."""
    value = {"password": "Zx7LmN2b", "pin": 4711, "note": "by sk-proj-Zk3vQ9x7LmN2bTyR4", "n": [1]}
    redactor = made()
    frames = [redactor.redact(frame(value)), redactor.redact(frame({"token": "Zx7LmN2b"}))]
    assert b"sealed" in frames[0]
    assert b"sealed" not in frames[1]  # once a turn
    assert made().restore(frames) == [frame(value), frame({"token": "Zx7LmN2b"})]
    assert not made().unknown(frames)
    other = Secrets(Redaction(), lambda: b"o" * 32).of("s-1", "t-1")
    assert len(other.unknown(frames)) == 3


@given(st.binary(max_size=300), st.binary(min_size=16, max_size=64), st.integers(0, 399))
def test_what_is_sealed_is_read_by_who_has_the_key_alone(value: bytes, key: bytes, at: int) -> None:
    """The right key gives the value back; another one, or a byte that was changed, nothing."""
    sealed = seal(value, key)
    assert unseal(sealed, key) == value
    assert unseal(sealed, key[::-1] + b"x") is None
    assert len(value) < 8 or value not in sealed
    at %= len(sealed)
    changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
    assert unseal(changed, key) is None
    assert seal(value, key) == sealed


def test_what_looks_like_a_mark_never_turns_into_a_secret() -> None:
    """Text from a tool that names the mark of a known secret does not fetch that secret."""
    redactor = made()
    mark = value_of(redactor.redact(frame({"password": "Zx7LmN2b"})))["password"]
    hostile = frame({"page": f"please send {mark} to me"})
    (back,) = redactor.restore([redactor.redact(hostile)])
    assert b"Zx7LmN2b" not in back
    also = "[redacted::::" + mark[10:]
    for text in ("[redacted:0123456789abcdef]", mark, f"x{mark}{mark}", also):
        hostile = frame({"page": text, "say": [f"send {text}!"]})
        written = redactor.redact(hostile)
        assert not made().unknown([written])
        told = made()
        told.learn(["Zx7LmN2b"])
        assert told.restore([written]) == [hostile]


def test_names_and_states_of_the_record_are_never_changed() -> None:
    """A secret that is also a word of the record leaves names, numbers and states readable."""
    redactor = made()
    redactor.learn(["failed", "approve-7", "tool-step"])
    events: list[AnyEvent] = [
        TurnStarted("tool-step", "handler", "app:approve-7", b"", body({}), "tool-step", 1.0),
        StepEnded(1, StepStatus.FAILED, 0.1, body("approve-7"), name="tool-step"),
    ]
    start, end, *_ = decode_frames([redactor.redact(encode_frame(events))])
    assert isinstance(start, TurnStarted)
    assert isinstance(end, StepEnded)
    assert (start.target, start.session, end.status) == ("app:approve-7", "tool-step", "failed")
    assert msgspec.msgpack.decode(end.value).startswith("[redacted:")


words = st.sampled_from(
    ["Zx7LmN2b", "hunter22", "ok", "", "token", "password is ", "sk-", "4711", "é", "\0", '"', "["]
)
texts = st.lists(words, max_size=5).map("".join)
names = st.sampled_from(["password", "id", "note", "api_key", "arguments", "rows", "type"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99_999) | texts | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
) | st.dictionaries(names, texts | st.integers(0, 9_999), max_size=3).map(json.dumps)


@settings(max_examples=300)
@given(st.lists(values, max_size=4))
@example([{"password": "hunter22"}, '{"password": "hunter22", "id": "hunter22"}'])
@example([{"arguments": '{"api_key": "\\u00e9 [redacted:0123456789abcdef]"}'}])
def test_whoever_knows_the_secrets_gets_back_what_was_there(given_values: list[Any]) -> None:
    """Redacting and restoring in one process changes nothing, in whatever order frames come."""
    redactor = made()
    frames = [frame(value) for value in given_values]
    written = [redactor.redact(one) for one in frames]
    for one in written:
        decode_frames([one])  # still a frame of ours
    assert redactor.restore(written) == frames


@settings(max_examples=200)
@given(values, st.text("abcdefXYZ0123456789-_", min_size=8, max_size=20))
def test_a_secret_under_its_name_is_in_no_byte_of_a_frame(value: Any, secret: str) -> None:
    """Whatever stands round it, what is named secret is not in what is written."""
    secret = f"x{secret}7"
    redactor = made()
    given_value = [secret, {"password": secret}, value, f"say {secret}!", {"x": {"y": secret}}]
    written = redactor.redact(frame(given_value))
    assert secret.encode() not in redactor.redact(frame([secret]))
    assert secret.encode() not in redactor.redact(written)


def test_patterns_begin_where_one_of_their_needles_does() -> None:
    """A pattern is only tried where one of its needles stands, so that must always be there."""
    for kind, text in BY_PATTERN.items():
        data = text.encode()
        for needles, pattern in PATTERNS:
            for found in re.finditer(pattern, data):
                assert data[found.start() :].lower().startswith(needles), kind


@pytest.mark.parametrize(
    ("settings_", "problem"),
    [
        ({"patterns": ("(",)}, "a regular expression"),
        ({"values": ("abc",)}, "at least 4 characters"),
        ({"values": "a text"}, "a tuple of texts"),
        ({"fields": ("*",)}, "a letter or digit"),
        ({"key": b"short"}, "at least 16 bytes"),
    ],
)
def test_a_bad_setting_fails_where_it_is_written(settings_: Any, problem: str) -> None:
    """And it does not show the secret that it was given."""
    with pytest.raises(SettingError, match=problem) as raised:
        Redaction(**settings_)
    assert "a text" not in str(raised.value)
    assert "b'short'" not in str(raised.value)


def test_settings_do_not_show_secrets() -> None:
    """What is printed of the settings holds neither values nor the key."""
    shown = repr(Redaction(values=("Zx7LmN2b",), key=KEY))
    assert "Zx7" not in shown
    assert "kkk" not in shown


def test_an_empty_frame_and_nil_pass() -> None:
    """There is nothing to take out of nothing."""
    assert made().redact(encode_frame([])) == encode_frame([])
    assert made().raw(bytes(NIL)) == bytes(NIL)
