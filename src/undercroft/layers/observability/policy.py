"""What is never written down: settings of redaction."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from undercroft.errors import SettingError

# Names whose values are secret. Case, spaces, `_`, `-` and `.` in a name do not count; `*` stands
# for any beginning. `page_token` and `max_tokens` are none of these.
FIELDS = (
    "*password",
    "*passwd",
    "*passphrase",
    "*secret",
    "*secret_key",
    "*private_key",
    "*api_key",
    "*api_secret",
    "*access_key",
    "*access_token",
    "*refresh_token",
    "*auth_token",
    "*bearer_token",
    "*session_token",
    "*security_token",
    "*id_token",
    "authorization",
    "proxy_authorization",
    "set_cookie",
    "credentials",
    "token",
    "pwd",
    "passcode",
    "otp",
    "cvv",
    "cvc",
    "ssn",
)

_ASSIGNED = (
    r"(?i)(?:pass(?:word|wd|phrase|code)|secret|(?:api|access|private)[_ -]?key"
    r"|(?:access|refresh|auth|bearer|session)[_ -]?token)[\"']?\s{0,3}(?:[:=]|\bis\b)\s{0,3}"
    r"[\"']?([^\s\"'<>,;&}{)\]]{4,500})"
)
# What secrets of well-known makers look like; where a pattern has a group, only that is secret.
# With each, in lower case, what stands in every text that it fits: most texts hold none of it.
PATTERNS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("sk-",), r"\bsk-[A-Za-z0-9_-]{16,200}"),
    (("akia", "asia"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{30,250}"),
    (("github_pat_",), r"\bgithub_pat_[A-Za-z0-9_]{30,250}"),
    (("glpat-",), r"\bglpat-[A-Za-z0-9_-]{16,100}"),
    (("xox",), r"\bxox[abeoprs]-[A-Za-z0-9-]{10,200}"),
    (("aiza",), r"\bAIza[0-9A-Za-z_-]{35}"),
    (("k_live_", "k_test_"), r"\b[rsp]k_(?:live|test)_[A-Za-z0-9]{10,200}"),
    (("npm_",), r"\bnpm_[A-Za-z0-9]{30,100}"),
    (("hf_",), r"\bhf_[A-Za-z0-9]{30,100}"),
    (
        ("eyj",),
        r"\beyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{8,2000}",
    ),
    (
        ("private key-----",),
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[A-Za-z0-9+/=\s:,-]{16,20000}-----END [A-Z ]{0,9}",
    ),
    (("bearer",), r"(?i)\bbearer\s{1,3}([A-Za-z0-9._~+/=-]{12,4000})"),
    (("basic ",), r"(?i)\bbasic\s{1,3}([A-Za-z0-9+/]{12,2000}={0,2})(?![A-Za-z0-9])"),
    (("://",), r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{0,100}:([^\s/@]{1,200})@"),
    # A name and a value in running text, such as `password: hunter22` or `api_key=…`.
    (("pass", "secret", "key", "token"), _ASSIGNED),
)
VALUE_CHARS_MIN = 4
_KEY_BYTES_MIN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What is replaced by `[redacted:…]` before anything is written, and how equal ones are told.

    In place of a secret stands a keyed hash of it: who reads a journal can tell whether two were
    the same, and not what they were. While a process lives its turns go on with the values
    themselves. A turn that another process takes up needs them again: see `values`.

    Attributes:
        fields: Names of fields and parameters whose values are secret, besides those of `FIELDS`
            and those that are annotated `uc.Secret`; `*` stands for any beginning.
        patterns: Regular expressions of secrets in texts, besides those of `PATTERNS`; where one
            has a group, only that is secret.
        values: Secrets that are known by themselves, such as the keys of services: wherever they
            stand they are replaced. At least 4 characters each.
        key: Of the hash, at least 16 bytes. If left out, one is made and kept beside the journal,
            in a file that only its owner may read.
        defaults: Whether `FIELDS` and `PATTERNS` count.

    Raises:
        SettingError: A pattern is none, or a value or the key is too short.
    """

    fields: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    values: tuple[str, ...] = field(default=(), repr=False)
    key: bytes | None = field(default=None, repr=False)
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
                re.compile(pattern)
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
