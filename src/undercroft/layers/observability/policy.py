"""What is never written down: settings of redaction."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from undercroft.errors import SettingError

# Names whose values are secret. Case, spaces, `_`, `-` and `.` in a name do not count, nor a number
# or a plural at its end; `*` stands for any beginning.
FIELDS = (
    "*password",
    "*passwd",
    "*passphrase",
    "*passcode",
    "*password_confirmation",
    "*secret",
    "*secret_key",
    "*private_key",
    "*api_key",
    "*access_key",
    "*encryption_key",
    "*signing_key",
    "*token",
    "*authorization",
    "*cookie",
    "*credential",
    "pwd",
    "otp",
    "pin",
    "cvv",
    "cvc",
    "ssn",
)
# Names that end so and tell a place in a list, or a count.
NOT_SECRET = (
    *("tokens", "pagetoken", "nexttoken", "continuationtoken", "cursortoken", "skiptoken"),
    *("synctoken", "starttoken", "tokentoken", "endtoken", "stoptoken", "eostoken", "padtoken"),
)
# Values of a whole line, where they stand as headers do.
HEADERS = ("authorization", "cookie")

# A name of two words and a value in a sentence, such as `my api key is …`.
_SPOKEN = (b"api key", b"access key", b"private key", b"secret key", b"pass phrase", b"pass code")
_SAID = (
    rb"(?i:api|access|private|secret|pass) (?i:key|phrase|code)\s{0,3}(?::|=|\sis\s)\s{0,3}"
    rb"[\"']?([^\s\"'<>,;&}{)\]]{6,500})"
)
# What secrets of well-known makers look like, in bytes, and how each begins, in lower case. Where a
# pattern has a group, only that is secret.
PATTERNS: tuple[tuple[tuple[bytes, ...], bytes], ...] = (
    ((b"sk-",), rb"sk-[A-Za-z0-9_-]{16,400}"),
    ((b"akia", b"asia"), rb"A[KS]IA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    ((b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"), rb"gh[pousr]_[A-Za-z0-9]{30,250}"),
    ((b"github_pat_",), rb"github_pat_[A-Za-z0-9_]{30,250}"),
    ((b"glpat-",), rb"glpat-[A-Za-z0-9_-]{16,100}"),
    ((b"xoxb-", b"xoxp-", b"xoxa-", b"xoxr-", b"xoxs-"), rb"xox[abprs]-[A-Za-z0-9-]{10,250}"),
    ((b"aiza",), rb"AIza[0-9A-Za-z_-]{35}"),
    ((b"sk_live_", b"rk_live_", b"pk_live_"), rb"[rsp]k_live_[A-Za-z0-9]{10,250}"),
    ((b"sk_test_", b"rk_test_", b"pk_test_"), rb"[rsp]k_test_[A-Za-z0-9]{10,250}"),
    ((b"npm_",), rb"npm_[A-Za-z0-9]{30,100}"),
    ((b"hf_",), rb"hf_[A-Za-z0-9]{30,100}"),
    (
        (b"eyj",),
        rb"eyJ[A-Za-z0-9_-]{8,8000}\.eyJ[A-Za-z0-9_-]{8,16000}\.[A-Za-z0-9_-]{8,4000}",
    ),
    (
        (b"-----begin",),
        rb"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:\\n|[A-Za-z0-9+/=\s:,]){16,20000}",
    ),
    ((b"bearer",), rb"(?i:bearer)[ :=]{1,3}([A-Za-z0-9._~+/=-]{12,4000})"),
    ((b"basic ",), rb"(?i:basic) {1,3}([A-Za-z0-9+/]{12,2000}={0,2})(?![A-Za-z0-9])"),
    ((b"://",), rb"://[^\s/:@\"']{0,100}:([^\s/@\"']{1,200})@"),
    (_SPOKEN, _SAID),
)
VALUE_CHARS_MIN = 4
_KEY_BYTES_MIN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What is replaced by `[redacted:…]` before anything is written, and how equal ones are told.

    In place of a secret stands a keyed hash of it: who reads a journal can tell whether two were
    the same, and not what they were. Turns go on with the values themselves, also in another
    process, as long as it has the key of the journal.

    Attributes:
        fields: Names of fields and parameters whose values are secret, besides those of `FIELDS`
            and those that are annotated `uc.Secret`; `*` stands for any beginning.
        patterns: Regular expressions of secrets in texts, besides those of `PATTERNS`; where one
            has a group, only that is secret. Each is tried on every text.
        values: Secrets that are known by themselves, such as the keys of services: wherever they
            stand they are replaced. At least 4 characters each.
        key: Of the hash, at least 16 bytes. If left out, one is made and kept beside the journal,
            in a file that only its owner may read.
        sealed: Whether what was redacted is kept besides, encrypted under the key, so that a turn
            can go on in another process that has the key. If not, that process must be told.
        defaults: Whether `FIELDS` and `PATTERNS` count.

    Raises:
        SettingError: A pattern is none, or a value or the key is too short.
    """

    fields: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    values: tuple[str, ...] = field(default=(), repr=False)
    key: bytes | None = field(default=None, repr=False)
    sealed: bool = True
    defaults: bool = True

    def __post_init__(self) -> None:
        for name in ("fields", "patterns", "values"):
            given = getattr(self, name)
            if isinstance(given, str) or not all(isinstance(one, str) for one in given):
                expected = "a tuple of texts"
                raise SettingError(name, "…" if name == "values" else given, expected)
            object.__setattr__(self, name, tuple(given))
        for pattern in self.patterns:
            try:
                re.compile(pattern.encode())
            except re.error as error:
                raise SettingError(
                    "patterns", pattern, f"a regular expression ({error})"
                ) from error
        if any(not normal(name).strip("*") for name in self.fields):
            raise SettingError("fields", self.fields, "names, each with a letter or digit")
        if any(len(value) < VALUE_CHARS_MIN for value in self.values):
            raise SettingError("values", "…", f"texts of at least {VALUE_CHARS_MIN} characters")
        if self.key is not None and len(self.key) < _KEY_BYTES_MIN:
            raise SettingError("key", "…", f"at least {_KEY_BYTES_MIN} bytes")


def normal(name: str) -> str:
    """Return a name without case and separators; a leading `*` stays."""
    star = "*" if name.startswith("*") else ""
    return star + "".join(filter(str.isalnum, name)).lower()
