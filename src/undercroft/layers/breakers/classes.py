"""What an error means: for another attempt, for the breaker of its service, and for people.

Keeps: a write of which nobody can say whether it happened is `unknown`, never `transient`; no
error, whatever it does when it is looked at, makes the looking fail; no client library has to
be installed.
Leaves to `known`: what is known of whom. To `evidence`: looking at errors and their chains.

An error is looked up by who raised it, then by its HTTP status and the words of its body. One
that only wraps another, or of which nothing is known, is judged by what it was raised from. Of
a call that may change the world more is asked before it counts as not having happened: nothing
that was being handled while the error was raised may leave that open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from undercroft.errors import ServiceError, SettingError
from undercroft.layers.breakers import known
from undercroft.layers.breakers.bodies import failed_body, whole_shape
from undercroft.layers.breakers.evidence import RETRIED, Link, links_of
from undercroft.layers.breakers.known import Blame
from undercroft.model.step import ErrorClass

__all__ = ["DEFAULT_TABLE", "Blame", "ErrorRule", "ErrorTable", "Judged"]

# Members of a group that are looked at.
MEMBERS_MAX = 32
# Of the members of a group the gravest speaks for all.
_GRAVITY = (
    ErrorClass.UNKNOWN,
    ErrorClass.PERMANENT,
    ErrorClass.DOMAIN,
    ErrorClass.OVERLOADED,
    ErrorClass.TRANSIENT,
)

Match: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
)


@dataclass(frozen=True, slots=True)
class Judged:
    """What an error means.

    Attributes:
        error_class: For another attempt.
        blame: Whose failure it was.
        retry_after_s: Seconds after which the service wants to be asked again, if it said so;
            of a call that was refused, when it may be made.
        quota: Whether a person has to pay or to raise a limit before it can go on.
        why: What decided, such as `HTTP 500`, `HTTP 529 overloaded_error` or `ConnectError`; it
            begins with `HTTP` where the service answered with a status.
    """

    error_class: ErrorClass
    blame: Blame
    retry_after_s: float | None = None
    quota: bool = False
    why: str = ""

    @property
    def refused(self) -> bool:
        """Whether nothing was called, or it was called off: neither success nor failure."""
        return self.blame is Blame.NOBODY


Classify: TypeAlias = Callable[[BaseException], "ErrorClass | Judged | None"]


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """What a user says about errors.

    Attributes:
        match: A type, several, or a function that says whether it is meant.
        error_class: What it means for another attempt.
        blame: Whose failure it is. Left out: as we would have said, where we would have said
            the same class; else the vendor's, of a domain error the caller's, of a permanent
            one nobody knows whose.
        changes: The class for calls that may change the world. Left out: the same, but
            `unknown` where a transient or overloaded one leaves open whether it happened.
    """

    match: Match
    error_class: ErrorClass
    blame: Blame | None = None
    changes: ErrorClass | None = None

    def __post_init__(self) -> None:
        kinds = self.match if isinstance(self.match, tuple) else (self.match,)
        types = all(isinstance(k, type) and issubclass(k, BaseException) for k in kinds)
        if not types and (isinstance(self.match, tuple | type) or not callable(self.match)):
            raise SettingError(
                "match", self.match, "a type of exception, a tuple of them, or a function"
            )
        for name, kind in (("error_class", ErrorClass), ("blame", Blame), ("changes", ErrorClass)):
            value = getattr(self, name)
            if value is None and name != "error_class":
                continue
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError:
                raise SettingError(name, value, f"one of {', '.join(kind)}") from None

    def fits(self, error: BaseException) -> bool:
        """Whether it is about `error`; raises what a function of its user raises."""
        if isinstance(self.match, tuple | type):
            return isinstance(error, self.match)
        return bool(self.match(error))


class ErrorTable:
    """Decides what errors mean: rules of a user first, then what we know."""

    __slots__ = ("_classify", "_on_bad", "_rules")

    def __init__(
        self,
        rules: Iterable[ErrorRule] = (),
        classify: Classify | None = None,
        *,
        on_bad: Callable[[Exception], object] | None = None,
    ) -> None:
        """Make a table.

        Args:
            rules: Asked in this order; the first that fits decides.
            classify: Asked next. None, or something that is no answer: not decided.
            on_bad: Told of each error that a rule or `classify` raised; the table goes on
                without it.

        Raises:
            SettingError: `rules` holds something else, or `classify` cannot be called.
        """
        self._rules = tuple(rules)
        for rule in self._rules:
            if not isinstance(rule, ErrorRule):
                raise SettingError("rules", rule, "ErrorRules")
        if classify is not None and not callable(classify):
            raise SettingError("classify", classify, "a function, or None")
        self._classify = classify
        self._on_bad = on_bad

    def judge(self, error: BaseException, *, changes: bool, wall_s: float | None = None) -> Judged:
        """Say what `error` means; never raises an Exception.

        Args:
            error: As it was raised.
            changes: Whether the call may have changed the world.
            wall_s: Seconds since 1970, for a `Retry-After` that is a date from a service that
                does not say what time it is.
        """
        try:
            built_in = _judge(error, changes, wall_s)
        except Exception:  # noqa: BLE001  an error that cannot be looked at is an error, too
            error_class = ErrorClass.UNKNOWN if changes else ErrorClass.PERMANENT
            built_in = Judged(error_class, Blame.VENDOR, why=type(error).__name__)
        if not self._rules and self._classify is None:
            return built_in
        return self._said(error, changes, built_in) or built_in

    def judge_value(self, value: Any, *, service: str = "") -> ServiceError | None:
        """Return the error that `value` is, where a service answered with one; else None.

        Only documented shapes of OpenAI and Anthropic count, and of those that others use as
        well only such as name a code that we know.
        """
        # On the path of every call that went well, so most values are passed by at once.
        if type(value) is not dict or ("error" not in value and "sequence_number" not in value):
            return None
        body = failed_body(value)
        if body is None:
            return None
        known_word = any(word in known.WORDS for word in body.words)
        if not (known_word or body.status is not None or whole_shape(value)):
            return None
        code = next(
            (w for w in body.words if w in known.WORDS), body.words[0] if body.words else ""
        )
        return ServiceError(service, body.message, body.status, code)

    def _said(self, error: BaseException, changes: bool, built_in: Judged) -> Judged | None:  # noqa: FBT001
        for rule in self._rules:
            try:
                if rule.fits(error):
                    return _by_rule(rule, changes, built_in)
            except Exception as bad:  # noqa: BLE001  a user's function
                self._bad(bad)
        if self._classify is None:
            return None
        try:
            said = self._classify(error)
            if said is None or isinstance(said, Judged):
                return said
            # A plain string will do; anything else is a ValueError here.
            return _by_rule(ErrorRule(BaseException, ErrorClass(said)), changes, built_in)
        except Exception as bad:  # noqa: BLE001  a user's function
            self._bad(bad)
            return None

    def _bad(self, error: Exception) -> None:
        if self._on_bad is not None:
            # Whoever listens cannot break the judging either.
            with suppress(Exception):
                self._on_bad(error)


def _by_rule(rule: ErrorRule, changes: bool, built_in: Judged) -> Judged:  # noqa: FBT001
    error_class, blame = rule.error_class, rule.blame
    if blame is None and built_in.error_class is error_class:
        blame = built_in.blame
    if blame is None:
        blame = {ErrorClass.DOMAIN: Blame.CALLER, ErrorClass.PERMANENT: Blame.UNSURE}.get(
            error_class, Blame.VENDOR
        )
    if changes:
        in_doubt = built_in.error_class is ErrorClass.UNKNOWN and error_class in RETRIED
        error_class = rule.changes or (ErrorClass.UNKNOWN if in_doubt else error_class)
    quota = built_in.quota and error_class is ErrorClass.PERMANENT
    return Judged(error_class, blame, built_in.retry_after_s, quota, f"rule: {built_in.why}")


def _judge(error: BaseException, changes: bool, wall_s: float | None) -> Judged:  # noqa: FBT001
    if isinstance(error, BaseExceptionGroup):
        return _group(error, changes, wall_s)
    links, whole = links_of(error, wall_s)
    top = links[0]
    found = top
    if top.kind.deeper or not top.sure:
        below = (
            link
            for link in links[1:]
            if (link.sure and not link.kind.deeper and (changes or not link.hidden))
            or (top.kind.deeper and link.caused and link.kind is known.BUG)
        )
        found = next(below, top)
    if found.kind is known.UNSENT:
        # A certificate that does not fit will not fit the next time.
        found = next((ln for ln in links if ln.sure and ln.kind is known.FAILED), found)
    error_class = found.kind.change if changes else found.kind.read
    if changes and error_class in RETRIED and (not whole or _in_doubt(links)):
        error_class = ErrorClass.UNKNOWN
    # Also of what is in doubt: it may be repeated under its key, and not too early.
    hinted = error_class in RETRIED or error_class is ErrorClass.UNKNOWN
    hint = found.retry_after_s if hinted else None
    return Judged(error_class, found.kind.blame, hint, found.kind.quota, found.why)


def _in_doubt(links: list[Link]) -> bool:
    """Whether a call that may have happened was being handled when the error was raised."""
    return any(
        link.sure
        and link.kind.change is ErrorClass.UNKNOWN
        and not link.explained
        and not link.kind.deeper
        for link in links
    )


def _group(group: BaseExceptionGroup[Any], changes: bool, wall_s: float | None) -> Judged:  # noqa: FBT001
    """The gravest of its members; of a change the rest of the group may have happened."""
    todo: list[BaseException] = [group]
    judged: list[Judged] = []
    for _ in range(MEMBERS_MAX):
        if not todo:
            break
        error = todo.pop()
        if isinstance(error, BaseExceptionGroup):
            todo += error.exceptions[:MEMBERS_MAX]
        else:
            judged.append(_judge(error, changes, wall_s))
    told = [j for j in judged if j.blame is not Blame.NOBODY] or judged
    if not told:
        return Judged(ErrorClass.PERMANENT, Blame.VENDOR, why=type(group).__name__)
    gravest = min(told, key=lambda j: _GRAVITY.index(j.error_class))
    if changes and gravest.error_class in RETRIED:
        gravest = replace(gravest, error_class=ErrorClass.UNKNOWN, retry_after_s=None)
    elif gravest.error_class in RETRIED:
        hints = [j.retry_after_s for j in told if j.retry_after_s is not None]
        gravest = replace(gravest, retry_after_s=max(hints, default=None))
    return gravest


DEFAULT_TABLE = ErrorTable()
