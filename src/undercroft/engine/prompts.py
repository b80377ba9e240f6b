"""What a model was sent, rebuilt from the journal: the messages of one prompt, in their order.

Keeps: a rebuilt prompt is checked against the fingerprint that was written down when it was
sent, and whatever may differ is said; no model is asked and no code of the turn is run.
Leaves to `windows.py` and the context layer: what windows hold, which is read by the same code
that a resumed turn reads it with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, cast

from undercroft.engine.codec import decode, encode
from undercroft.engine.models import body_digest
from undercroft.engine.rehearsal import digest_of
from undercroft.engine.toldturn import AskingStep, ToldTurn
from undercroft.engine.windows import Room, Windows
from undercroft.errors import DeclarationError, SettingError
from undercroft.layers.context.compaction import Plan
from undercroft.layers.context.conversation import Entry
from undercroft.layers.context.counting import Counter, Counts
from undercroft.layers.context.fold import compaction_of, fold_turn
from undercroft.layers.context.loss import LossReport
from undercroft.layers.context.memory import Memory
from undercroft.layers.context.policy import RULES, ContextPolicy, ContextRule, ContextShare
from undercroft.layers.context.state import Compaction, Window
from undercroft.layers.observability.redaction import nothing_secret
from undercroft.model.event import (
    NIL_BYTES,
    AnyEvent,
    ContextCompacted,
    ContextOpened,
)
from undercroft.model.ids import FINGERPRINT_BYTES
from undercroft.model.message import Message, ModelRequest, ToolSpec, Wire
from undercroft.model.step import MODEL, SUMMARY, step_id
from undercroft.model.turn import TurnHead
from undercroft.ports import Store

# What stands for a secret that was not written down.
_REDACTED = re.compile(r"\[redacted:[0-9a-f]{16}\]")


Bodies = Callable[[ModelRequest, Wire], Mapping[str, Any] | None]


class Journal(Protocol):
    """What is read of a journal."""

    def frames(self, turn_id: str) -> list[bytes] | None:
        """Return the committed frames of a turn, in order; None where there is none."""

    def heads(self, *, session: str | None = None, limit: int = 100) -> list[TurnHead]:
        """Return turns, newest first."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one step sent to a model.

    Attributes:
        branch: Of the handler's code; empty for the turn itself.
        tools: That were on offer; None where the journal does not say.
        withdrawn: Tools that were not offered, by the service that was given up.
        loss: What it shows of the conversation, and what it does not; None where its window
            has no limit.
        sent: Whether it went out: one that does not fit its window is not sent.
        verified: Whether its messages are those that were fingerprinted when it was sent.
        doubts: In what it may differ from what was sent, in words.
        model: Its name; empty where nobody said.
        redacted: How many secrets in it are not as they were sent, since they were never written
            down; what they were in is therefore not `verified`.
        body: The JSON body as it went over the wire, but for those secrets; None where the
            client did not say how it writes them, or nobody here writes such bodies.
        same_body: Whether it has the digest of what was sent; None where that is not known.
    """

    step_id: str
    n: int
    branch: str
    messages: tuple[Message, ...]
    breakpoints: tuple[int, ...] = ()
    place: int | None = None
    tools: tuple[ToolSpec, ...] | None = None
    withdrawn: Mapping[str, Sequence[str]] = field(default_factory=dict)
    loss: LossReport | None = None
    sent: bool = True
    verified: bool = True
    doubts: tuple[str, ...] = ()
    model: str = ""
    redacted: int = 0
    body: Mapping[str, Any] | None = None
    same_body: bool | None = None

    @property
    def request(self) -> ModelRequest:
        """The prompt as a model client is given it."""
        return ModelRequest(
            self.messages, self.tools or (), breakpoints=self.breakpoints, place=self.place
        )


class _Shot(NamedTuple):
    """A prompt as it was about to be sent."""

    messages: tuple[Message, ...]
    breakpoints: tuple[int, ...]
    loss: LossReport | None
    digest: bytes


class _Wanted(NamedTuple):
    """A summary that was asked for: the compaction that it was for, and what it should cover."""

    made: Compaction
    covers: Sequence[int]
    merges: int
    tokens_max: int


class _Watched(Window):
    """A window that remembers the prompt that is looked for."""

    __slots__ = ("countdown", "digest", "shot", "summary", "wanted")

    def __init__(
        self,
        policy: ContextPolicy | None = None,
        counts: Counts | None = None,
        memory: Memory | None = None,
        *,
        turn: int = 0,
    ) -> None:
        super().__init__(policy, counts, memory, turn=turn)
        # How many prompts come up to the one that is looked for; 0: nobody looks.
        self.countdown = 0
        self.digest = blake2b(digest_size=FINGERPRINT_BYTES)
        self.shot: _Shot | None = None
        # A compaction of which the request for its summary is looked for.
        self.wanted: _Wanted | None = None
        self.summary: tuple[Message, ...] | None = None

    def watch(self, line: str, prompts: int) -> None:
        """Look for the prompt that comes as number `prompts` of a line, from 1."""
        self.countdown = prompts
        self.digest = blake2b(line.encode(), digest_size=FINGERPRINT_BYTES)

    def close_calls(self) -> None:
        """Answer calls that have no result; without a policy nobody does."""
        if self.policy is not None:
            super().close_calls()

    def delta(self) -> list[Entry]:
        """Return what the next prompt adds, and let the fingerprint know of it."""
        fresh = super().delta()
        for entry in fresh:
            self.digest.update(encode(entry.message))
        return fresh

    def apply(self, record: Compaction, *, counted: bool = True) -> None:
        """Do what a compaction did, and what was asked of a summariser before."""
        wanted = self.wanted
        if self.countdown == 1 and wanted is not None and wanted.made == record:
            covered = [self._by_id[item] for item in wanted.covers if item in self._by_id]
            plan = Plan(
                record.why,
                record.before,
                record.target,
                record.after,
                covered=covered,
                merged=wanted.merges,
                summary_max=wanted.tokens_max,
            )
            self.summary = self.summary_request(plan)
        super().apply(record, counted=counted)

    def prompt(self, *, later: bool = False) -> Any:
        """Watch the prompt that is about to be sent."""
        if self.countdown == 1:
            loss = None if self.policy is None else self.report()
            self.shot = _Shot(self.messages, self.breakpoints, loss, self.digest.digest())
        self.countdown = max(0, self.countdown - 1)
        return super().prompt(later=later)


class _Room(Room):
    """What watched windows are made by."""

    __slots__ = ()

    def window(self, turn: int = 0) -> _Watched:
        """Return a new, empty window."""
        return _Watched(self.policy, self.counts, Memory(self.extractors), turn=turn)


def prompt_of(  # noqa: PLR0913  what a prompt is rebuilt from
    store: Journal,
    events: Sequence[AnyEvent],
    n: int,
    *,
    policies: Callable[[str], ContextOpened | None],
    counter: Callable[[str], Counter | None],
    bodies: Bodies | None = None,
) -> Prompt | None:
    """Return what step `n` of a turn sent to a model; None where it asked none.

    Args:
        store: Where earlier turns of the session are read; nothing is written.
        events: Of the turn.
        n: Number of the step.
        policies: Returns the event that says the settings of a policy, by its hash.
        counter: Returns what counts in a vocabulary, or None where nothing does here.
        bodies: Makes the JSON body of a request, or returns None where it cannot.
    """
    turn = ToldTurn(events)
    step = turn.step(n)
    if step is None or step.kind != MODEL:
        return None
    prompt = _prompt(store, turn, step, turn.first(n), policies=policies, counter=counter)
    if turn.first(n) != n:
        # Another model was sent the same.
        named, sent = step_id(step.name, n), n in turn.started
        prompt = replace(prompt, step_id=named, n=n, sent=sent, model=turn.model((n,)))
    return prompt if bodies is None else _with_body(prompt, turn, bodies)


def _with_body(prompt: Prompt, turn: ToldTurn, bodies: Bodies) -> Prompt:
    """Return a prompt with the JSON body that was sent, as far as the journal tells."""
    digest, tokens_max = turn.body(prompt.n)
    wire = turn.wire(prompt.n, prompt.branch)
    if not digest or wire is None:
        return prompt
    body = bodies(replace(prompt.request, output_tokens_max=tokens_max), wire)
    if body is None:
        doubt = f"nothing here writes bodies as {wire.form!r} has them"
        return replace(prompt, doubts=(*prompt.doubts, doubt))
    return replace(prompt, body=body, same_body=body_digest(body) == digest)


def _prompt(  # noqa: PLR0913  what a prompt is rebuilt from
    store: Journal,
    turn: ToldTurn,
    step: AskingStep,
    n: int,
    *,
    policies: Callable[[str], ContextOpened | None],
    counter: Callable[[str], Counter | None],
) -> Prompt:
    """Return the messages that a step sent, which is the first that sent them."""
    name, sent = step.name, n in turn.started
    if name == SUMMARY:
        made = next((e for e in turn.compactions if e.summary_n == n), None)
        if made is None:
            doubt = "the prompt that it was for was never made, so what it covers is not known"
            return Prompt(
                step_id(name, n), n, step.branch, (), sent=sent, verified=False, doubts=(doubt,)
            )
        target, branch = made.n, made.branch
    else:
        made, target, branch = None, n, step.branch
    doubts: list[str] = []
    opened = turn.opened(target)
    room = _room(opened, policies, counter, doubts)
    window, shot, asked = _likeliest(store, turn, room, target, branch, made)
    matches = shot.digest == turn.fingerprint(target)
    verified = _is_sent(turn, target, asked, shot, matches=matches)
    redacted = len({mark for message in shot.messages for mark in _marks(message)})
    if not verified and not redacted:
        doubts.append(
            "it is not the text that was fingerprinted when it was sent: some of it was said in a "
            "way that the journal does not tell"
        )
    place = sum(1 for one in asked[:-1] if turn.is_answered(one)) if room is not None else None
    prompt = Prompt(
        step_id(name, n),
        n,
        branch,
        shot.messages,
        shot.breakpoints,
        place,
        turn.tools(asked),
        turn.withdrawn(n),
        shot.loss,
        sent,
        verified,
        tuple(doubts),
        turn.model(asked),
        redacted,
    )
    if made is None:
        return prompt
    return replace(
        prompt,
        messages=window.summary or (),
        breakpoints=(),
        place=None,
        tools=(),
        loss=None,
        model=turn.model((n,)) or prompt.model,
    )


def _marks(message: Message) -> list[str]:
    """Return what stands in a message for secrets."""
    return _REDACTED.findall(message.content) + _REDACTED.findall(
        encode([call.arguments for call in message.calls]).decode("utf-8", "replace")
    )


def _is_sent(turn: ToldTurn, n: int, asked: Sequence[int], shot: _Shot, *, matches: bool) -> bool:
    """Whether what was rebuilt is what was sent, as far as the journal tells."""
    digest = turn.said(n).get("sha")
    tools = turn.tools(asked)
    if digest is None or tools is None:
        return matches  # of an older journal, which knows only what was said since the turn began
    return bool(digest == digest_of(ModelRequest(shot.messages, tools), nothing_secret()))


def _likeliest(  # noqa: PLR0913, PLR0917  what a prompt follows from
    store: Journal,
    turn: ToldTurn,
    room: _Room | None,
    target: int,
    branch: str,
    made: ContextCompacted | None,
) -> tuple[_Watched, _Shot, Sequence[int]]:
    """Return the window of a line at one prompt, that, and the steps that made it.

    Of several that might be it the one that has the fingerprint of what was sent.
    """
    fp, found = turn.fingerprint(target), None
    for asked in turn.candidates(branch, target):
        try:
            window, shot = _rebuilt(store, turn, room, asked, branch, made)
        except DeclarationError:
            continue  # it holds what no one window could
        if found is None or shot.digest == fp:
            found = window, shot, asked
        if shot.digest == fp:
            break
    assert found is not None  # noqa: S101  the step itself asked
    return found


def _rebuilt(  # noqa: PLR0913, PLR0917  what a prompt follows from
    store: Journal,
    turn: ToldTurn,
    room: _Room | None,
    asked: Sequence[int],
    branch: str,
    made: ContextCompacted | None,
) -> tuple[_Watched, _Shot]:
    """Return the window of a line, and its last prompt of those `asked`."""
    opened = turn.opened(asked[-1])
    number = 0 if room is None or opened is None else opened.turn
    if room is None:
        window = _Watched()
    elif branch:
        window = room.window(number)
    else:
        window = _handed_on(store, turn, room, opened)
    window.watch(branch, len(asked))
    if made is not None:
        asked_for = turn.said(made.summary_n)
        window.wanted = _Wanted(
            compaction_of(made),
            asked_for.get("covers", ()),
            asked_for.get("merges", 0),
            asked_for.get("tokens_max", 0),
        )
    fold_turn(window, turn.upto(branch, asked), number)
    assert window.shot is not None  # noqa: S101  the last one of those that were asked
    return window, window.shot


def _handed_on(
    store: Journal, turn: ToldTurn, room: _Room, opened: ContextOpened | None
) -> _Watched:
    """Return the window that the turn began with, as the session's earlier turns left it."""
    # It reads, and nothing else.
    windows = Windows(cast("Store", store), None, None, lambda _: room.counts.counter, None)
    window = windows.take(room, turn.session, turn.id, opened).window
    assert isinstance(window, _Watched)  # noqa: S101  the room made it
    return window


def _room(
    opened: ContextOpened | None,
    policies: Callable[[str], ContextOpened | None],
    counter: Callable[[str], Counter | None],
    doubts: list[str],
) -> _Room | None:
    """Return what the windows of a turn are made by; None where they have no limit."""
    if opened is None:
        return None
    policy = told_policy(opened, policies)
    if policy is None:
        doubts.append("the journal does not say the settings of its context policy")
        return None
    if policy.hash != opened.policy:
        doubts.append("its context policy is of another version of Undercroft")
    counts = counter(policy.vocabulary)
    if counts is None:
        doubts.append(
            f"nothing here counts tokens as {policy.vocabulary!r} does, so a result that was cut "
            "may have been cut elsewhere"
        )
    return _Room(policy, Counts(counts))


def told_policy(
    opened: ContextOpened, policies: Callable[[str], ContextOpened | None]
) -> ContextPolicy | None:
    """Return the policy that a turn was opened under; None where the journal does not say."""
    told = opened if bytes(opened.settings) != NIL_BYTES else policies(opened.policy)
    return None if told is None else read_policy(decode(told.settings))


def read_policy(settings: Any) -> ContextPolicy | None:
    """Return a policy as it was written down; None where it is of a kind that is not known."""
    if not isinstance(settings, Mapping):
        return None
    try:
        given = dict(settings)
        shares = [
            ContextShare(section=section, priority=priority, min_share=least, max_share=most)
            for section, priority, least, most in given.pop("shares")
        ]
        rules = [
            ContextRule(kind=kind, action=action, above_tokens=above, tool=tool)
            for kind, action, above, tool in given.pop("rules")
        ]
        # Those that are there anyway come first.
        if tuple(rules[: len(RULES)]) == RULES:
            rules = rules[len(RULES) :]
        return ContextPolicy(shares=tuple(shares), rules=tuple(rules), **given)
    except (KeyError, TypeError, ValueError, SettingError):
        return None
