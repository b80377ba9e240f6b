"""One step on the page of its turn: what it was given, sent and gave, and how that went.

Keeps: of two prompts of one line the second says only what it adds, and where the rest stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from undercroft.engine.prompts import Prompt
from undercroft.layers.context.items import Fate
from undercroft.layers.context.loss import LossReport
from undercroft.layers.observability.approvals import Asked
from undercroft.model.message import Message
from undercroft.model.step import MODEL
from undercroft.model.trace import Decision, StepTrace
from undercroft.pages.html import Markup, join, tag
from undercroft.pages.timeline import LOOKS
from undercroft.pages.words import clock, counted, pretty, took

_LISTED_MAX = 50
_LOST_MAX = 200


@dataclass(frozen=True, slots=True)
class StepView:
    """What is shown of a step.

    Attributes:
        prompt: What it sent to a model; None where it asked none, or that is not on the page.
        before: The prompt that its line sent before, and the id of the step that did.
        asked: What people were asked of it.
        used_by: Ids of steps that used its result.
        numbers: Of all steps, by id.
        most: Characters of a body; None for all.
    """

    step: StepTrace
    prompt: Prompt | None
    before: tuple[str, Prompt] | None
    asked: Sequence[Asked]
    used_by: Sequence[str]
    numbers: Mapping[str, int]
    most: int | None


def facts(rows: Sequence[tuple[str, str | Markup]]) -> Markup | None:
    """Return names and what is said of each; None where there are none."""
    if not rows:
        return None
    cells = [part for name, said in rows for part in (tag("dt", name), tag("dd", said))]
    return tag("dl", *cells, class_="facts")


def step_section(view: StepView) -> Markup:
    """Return one step, folded together."""
    step = view.step
    look = LOOKS.get(step.status, "faint")
    summary = tag(
        "summary",
        tag("strong", step.step_id),
        " ",
        tag("span", step.status.replace("_", " "), class_=f"tag {look}"),
        " ",
        tag("small", ", ".join(word for word in (step.kind, took(step.took_s)) if word)),
    )
    return tag(
        "details",
        summary,
        facts(_rows(view)),
        _attempts(step),
        *(_question(asked, view.most) for asked in view.asked),
        _refusal(step),
        _prompt(view) if view.step.kind == MODEL else _given(view),
        _value(view),
        id=f"step-{step.n}",
    )


def _rows(view: StepView) -> list[tuple[str, str | Markup]]:
    step = view.step
    rows: list[tuple[str, str | Markup]] = []
    if step.changes:
        rows.append(("effect", "changes the world"))
    if step.branch:
        rows.append(("branch", step.branch))
    if step.claims:
        rows.append(("claims", ", ".join(f"{mode} {key}" for mode, key in step.claims)))
    if step.causes:
        rows.append(("uses", _links(step.causes, view.numbers)))
    if view.used_by:
        rows.append(("used by", _links(view.used_by, view.numbers)))
    if step.began_at is not None:
        rows.append(("began", clock(step.began_at, date=True)))
    rows.append(("took", took(step.took_s) or "not known: it has no recorded end"))
    if step.service:
        state = f", its breaker {step.breaker.replace('_', ' ')}" if step.breaker else ""
        rows.append(("service", f"{step.service}{state}"))
    rows += [
        ("waited", f"{took(wait.waited_s)} for {wait.claim}, behind {wait.behind or 'others'}")
        for wait in step.waits[:_LISTED_MAX]
    ]
    for owned in step.owned[:_LISTED_MAX]:
        keys = ", ".join(owned.keys[:_LISTED_MAX])
        taken = f", taken over from {owned.taken_from}" if owned.taken_from else ""
        dirty = ", left dirty" if owned.dirty else ""
        rows.append(("owns", f"{keys}, fence {owned.fence:,}{taken}{dirty}"))
    if step.spent is not None:
        tokens = f"{step.spent.input_tokens:,} tokens in, {step.spent.output_tokens:,} out"
        money = "" if step.spent.usd is None else f", ${step.spent.usd:.4f}"
        rows.append(("spent", f"{counted(step.spent.attempts, 'attempt')}, {tokens}{money}"))
    rows += [("decided", _word(said)) for said in step.decisions[:_LISTED_MAX] if not view.asked]
    return rows


def _word(said: Decision) -> str:
    because = f": {said.reason}" if said.reason else ""
    return f"{clock(said.at, date=True)} {said.what} by {said.by or said.how}{because}"


def _links(ids: Sequence[str], numbers: Mapping[str, int]) -> Markup:
    parts: list[Markup | str] = []
    for step_id in ids[:_LISTED_MAX]:
        n = numbers.get(step_id)
        parts += [step_id if n is None else tag("a", step_id, href=f"#step-{n}"), " "]
    if len(ids) > _LISTED_MAX:
        parts.append(f"and {len(ids) - _LISTED_MAX:,} more")
    return join(*parts)


def _attempts(step: StepTrace) -> Markup | None:
    """Return every attempt that failed, with its error and what that means."""
    rows = [
        (str(r.attempt), str(r.error), str(r.error.error_class), r.error.blame, took(r.wait_s),
         r.breaker)
        for r in step.retries[:_LISTED_MAX]
    ]  # fmt: skip
    if step.error is not None:
        error = step.error
        rows.append(("last", str(error), str(error.error_class), error.blame, "", step.breaker))
    if not rows:
        return None
    heads = ("attempt", "error", "class", "blame", "then waited", "breaker")
    return tag(
        "table",
        tag("thead", tag("tr", *(tag("th", head) for head in heads))),
        tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows)),
    )


def _question(asked: Asked, most: int | None) -> Markup:
    """Return what a person was asked, what they saw, and what they said."""
    rows: list[tuple[str, str | Markup]] = [
        ("asked", clock(asked.at, date=True)),
        ("bound to", asked.fingerprint),
    ]
    if asked.expires_at is not None:
        rows.append(("expires", clock(asked.expires_at, date=True)))
    rows += [("saw", f"{key} at version {version}") for key, version in asked.versions]
    if asked.word:
        when = "" if asked.decided_at is None else f" {clock(asked.decided_at, date=True)}"
        because = f": {asked.why}" if asked.why else ""
        rows.append(("word", f"{asked.word} by {asked.by or 'nobody'}{when}{because}"))
    return join(tag("h4", "Approval"), facts(rows), _body(asked.arguments, most))


def _refusal(step: StepTrace) -> Markup | None:
    if step.refusal is None:
        return None
    refusal = step.refusal
    rows: list[tuple[str, str | Markup]] = [
        ("refused by", refusal.rule),
        ("why", refusal.message),
        ("next move", refusal.next),
    ]
    shown = _body(dict(refusal.facts), None) if refusal.facts else None
    return join(facts(rows), shown)


def _given(view: StepView) -> Markup | None:
    if view.step.arguments is None:
        return None
    return join(tag("h4", "Arguments"), _body(view.step.arguments, view.most))


def _value(view: StepView) -> Markup | None:
    if view.step.value is None:
        return None
    return join(tag("h4", "Result"), _body(view.step.value, view.most))


def _body(value: Any, most: int | None) -> Markup:
    text = pretty(value)
    if most is not None and len(text) > most:
        text = f"{text[:most]}\n… ({len(text):,} characters)"
    return tag("pre", text)


# ------------------------------------------------------------------ prompts


def _prompt(view: StepView) -> Markup | None:
    prompt = view.prompt
    if prompt is None:
        text = f"undercroft show TURN --step {view.step.step_id} --prompt"
        return tag("p", "Its prompt is not on this page: ", tag("code", text), class_="faint")
    messages = prompt.messages
    same = _same(messages, view.before[1].messages) if view.before is not None else 0
    said = [f"{len(messages):,} messages"]
    if prompt.model:
        said.append(f"to {prompt.model}")
    if not prompt.sent:
        said.append("not sent, since it did not fit")
    if prompt.verified:
        said.append("checked against the fingerprint of what was sent")
    elif prompt.redacted:
        said.append(f"as it was sent but for {counted(prompt.redacted, 'secret')}")
    head = None
    if same and view.before is not None:
        n = view.numbers.get(view.before[0], 0)
        link = tag("a", view.before[0], href=f"#step-{n}")
        head = tag("p", f"The first {same:,} as in ", link, ".", class_="faint")
    shown = [_message(at, messages[at], view.most) for at in range(same, len(messages))]
    return tag(
        "details",
        tag("summary", f"Prompt: {', '.join(said)}"),
        *(tag("p", doubt, class_="warn") for doubt in prompt.doubts),
        head,
        *shown,
        _tools(prompt, view.before),
        *(
            tag("p", f"Withdrawn with {service}: {', '.join(names)}", class_="warn")
            for service, names in prompt.withdrawn.items()
        ),
        None if prompt.loss is None else _loss(prompt.loss),
    )


def _same(messages: Sequence[Message], before: Sequence[Message]) -> int:
    """Return with how many of the same messages two prompts begin."""
    pairs = enumerate(zip(messages, before, strict=False))
    return next((at for at, (x, y) in pairs if x != y), min(len(messages), len(before)))


def _message(place: int, message: Message, most: int | None) -> Markup:
    whose = message.role if not message.name else f"{message.role} {message.name}"
    calls = [
        join(tag("p", "→ ", tag("strong", call.name), " ", tag("small", call.id or "")),
             _body(call.arguments, most))
        for call in message.calls
    ]  # fmt: skip
    return join(
        tag("h4", f"{place} {whose} {message.call_id or ''}".rstrip()),
        _body(message.content, most) if message.content else None,
        *calls,
    )


def _tools(prompt: Prompt, before: tuple[str, Prompt] | None) -> Markup | None:
    if prompt.tools is None:
        return tag("p", "This journal does not say which tools were on offer.", class_="faint")
    if before is not None and before[1].tools == prompt.tools:
        return tag("p", f"{counted(len(prompt.tools), 'tool')} on offer, as before.")
    return join(
        tag("h4", f"{counted(len(prompt.tools), 'tool')} on offer"),
        *(
            tag("details", tag("summary", tag("code", tool.name), " ", tool.description[:200]),
                _body(tool.parameters, None))
            for tool in prompt.tools
        ),
    )  # fmt: skip


def _loss(loss: LossReport) -> Markup:
    """Return what the prompt shows of the conversation, and what it does not."""
    limit = "" if loss.limit_tokens is None else f" of {loss.limit_tokens:,}"
    sections = ", ".join(f"{name} {count:,}" for name, count in loss.sections.items() if count)
    said = tag("p", f"{loss.tokens:,} tokens{limit}: {sections}.")
    lost = [line for line in loss.lines if line.fate is not Fate.KEPT]
    if not lost:
        return join(tag("h4", "Context"), said, tag("p", "All is shown as it came."))
    rows = [
        tag(
            "tr",
            *(tag("td", cell) for cell in (line.item, line.kind, str(line.fate))),
            tag("td", f"{line.tokens:,} → {line.shown_tokens:,}", class_="number"),
            tag("td", line.reason + (f" (recall {line.handle})" if line.handle else "")),
        )
        for line in lost[:_LOST_MAX]
    ]
    left = len(lost) - len(rows)
    return join(
        tag("h4", f"Context: {len(lost):,} of {len(loss.lines):,} items not as they came"),
        said,
        tag("table", tag("tbody", *rows)),
        tag("p", f"… and {left:,} more", class_="faint") if left > 0 else None,
    )
