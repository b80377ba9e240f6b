"""One turn on one page: six answers, timeline, graph of causes, and every step in full.

Keeps: the page says only what the record says, whatever is in it; what is left out of it is
counted, and the command that shows it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from undercroft.engine.prompts import Prompt
from undercroft.layers.observability.answers import QUESTIONS, Answers
from undercroft.layers.observability.approvals import Asked
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import StepStatus
from undercroft.model.trace import Spent, StepTrace, Trace
from undercroft.pages.graph import draw_graph
from undercroft.pages.html import Markup, join, page, tag
from undercroft.pages.step import StepView, facts, step_section
from undercroft.pages.timeline import LOOKS, draw_timeline
from undercroft.pages.words import clock, counted, pretty, took

# Of all bodies of a page together, and of each at the most and at the least.
BODIES_CHARS_MAX = 4_000_000
BODY_CHARS_MAX, BODY_CHARS_MIN = 4_000, 200
# Prompts repeat each other: of more than these only the first and the last are on a page.
PROMPTS_MAX = 24
# And of fewer in a long turn, where each takes longer to rebuild.
PROMPTS_LONG_MAX, LONG_STEPS = 8, 1_000
PROMPTS_ALL_MAX = 200
_LISTED_MAX = 60

_TURN_LOOKS: dict[str, str] = {
    TurnStatus.DONE: "good",
    TurnStatus.DEGRADED: "warn",
    TurnStatus.FAILED: "bad",
    TurnStatus.IN_DOUBT: "doubt",
    TurnStatus.WAITING: "info",
    TurnStatus.STOPPED: "warn",
    TurnStatus.RUNNING: "info",
}


@dataclass(frozen=True, slots=True)
class TurnView:
    """What a page is made of.

    Attributes:
        prompt: Returns what a step sent to a model; None where it asked none.
        questions: What people were asked, and what they saw.
        everything: Whether lists and bodies are shown in full.
        spent: Of the whole turn, or None.
    """

    trace: Trace
    answers: Answers
    prompt: Callable[[StepTrace], Prompt | None]
    questions: Sequence[Asked] = ()
    everything: bool = False
    spent: Spent | None = None


def turn_page(view: TurnView) -> str:
    """Return the page of a turn, to be written as UTF-8."""
    trace = view.trace
    body = join(
        _head(view),
        tag(
            "nav",
            *(
                tag("a", name, href=f"#{place}")
                for name, place in (
                    ("Answers", "answers"),
                    ("Timeline", "timeline"),
                    ("Causes", "causes"),
                    ("Steps", "steps"),
                )
            ),
        ),
        tag("main", _answers(view), _drawings(view), _steps(view)),
        tag("footer", tag("p", _foot(view), class_="faint")),
    )
    return page(f"Turn {trace.turn_id}", body)


def _foot(view: TurnView) -> str:
    trace = view.trace
    return f"From the journal of turn {trace.turn_id}. The same as text: undercroft show TURN."


def _head(view: TurnView) -> Markup:
    trace = view.trace
    status = str(trace.status)
    pill = tag("span", status.replace("_", " "), class_=f"tag {_TURN_LOOKS.get(status, 'faint')}")
    said: list[tuple[str, str | Markup]] = [
        ("runs", f"{trace.kind} {trace.target}"),
        ("began", clock(trace.began_at, date=True)),
    ]
    if view.answers.total_s is not None:
        said.append(("took", took(view.answers.total_s)))
    if trace.session is not None:
        said.append(("session", trace.session))
    if len(trace.lives) > 1:
        lives = [f"{clock(life.began_at)} {life.ended}" for life in trace.lives[:_LISTED_MAX]]
        said.append(("processes", f"{len(trace.lives):,}: {', '.join(lives)}"))
    if view.spent is not None:
        said.append(("spent", _spent(view.spent)))
    return tag("header", tag("h1", trace.turn_id, " ", pill), facts(said))


def _spent(spent: Spent) -> str:
    words = [counted(spent.attempts, "attempt"), took(spent.time_s)]
    if spent.input_tokens or spent.output_tokens:
        words.append(f"{spent.input_tokens:,} tokens in, {spent.output_tokens:,} out")
    if spent.usd is not None:
        words.append(f"${spent.usd:.4f}")
    return ", ".join(words)


# ------------------------------------------------------------------ the six answers


def _answers(view: TurnView) -> Markup:
    parts = (_tried, _called, _succeeded, _failed, _took, _seen)
    return tag(
        "section",
        *(
            join(tag("h2", question), part(view))
            for question, part in zip(QUESTIONS, parts, strict=True)
        ),
        id="answers",
    )


def _tried(view: TurnView) -> Markup:
    trace = view.trace
    inputs: list[tuple[str, str | Markup]] = [
        (name, _body(view, value)) for name, value in list(trace.input.items())[:_LISTED_MAX]
    ]
    return join(tag("p", f"{trace.kind} {trace.target}"), facts(inputs))


def _called(view: TurnView) -> Markup:
    return _names(view, view.answers.called, "Nothing was called.")


def _succeeded(view: TurnView) -> Markup:
    done = [step for step in view.trace.steps if step.status is StepStatus.OK]
    said = tag("p", f"{len(done):,} of {counted(len(view.trace.steps), 'step')}.")
    return join(said, _names(view, done, ""))


def _failed(view: TurnView) -> Markup:
    failed = view.answers.failed
    error = view.trace.error
    said = tag("p", str(error), class_="bad") if error is not None else None
    if not failed:
        return said or tag("p", "Nothing.")
    rows = [
        tag(
            "tr",
            tag("td", _link(step), class_="name"),
            tag("td", _pill(step)),
            tag("td", _why(step)),
        )
        for step in failed[: len(failed) if view.everything else _LISTED_MAX]
    ]
    return join(said, tag("table", tag("tbody", *rows)), _more(len(failed) - len(rows)))


def _why(step: StepTrace) -> str:
    if step.refusal is not None:
        return f"{step.refusal.rule}: {step.refusal.message} {step.refusal.next}"
    return "" if step.error is None else f"{step.error} ({step.error.error_class})"


def _took(view: TurnView) -> Markup:
    said = view.trace.parallelism
    longest = sorted(view.trace.steps, key=lambda s: -(s.took_s or 0.0))[:8]
    rows = [
        tag("tr", tag("td", _link(s)), tag("td", took(s.took_s), class_="number"))
        for s in longest
        if s.took_s
    ]
    table = tag("table", tag("tbody", *rows)) if rows else None
    pace = None
    if said is not None:
        pace = facts(
            [
                ("work", f"{took(said.work_s)} in {took(said.elapsed_s)}"),
                ("at a time", f"{said.achieved:.1f} steps, {said.possible:.1f} possible"),
                (
                    "critical path",
                    f"{took(said.critical_s)}: {' → '.join(said.critical_path[:_LISTED_MAX])}",
                ),
                ("lost", took(said.lost_s)),
                *(
                    ("waited", f"{took(s)}: {waiter} for {claim}, behind {behind or 'others'}")
                    for claim, waiter, behind, s in said.waits[:8]
                ),
            ]
        )
    return join(pace, tag("p", "The longest steps:") if rows else None, table)


def _seen(view: TurnView) -> Markup:
    trace = view.trace
    if trace.status is TurnStatus.FAILED:
        said = tag("p", "Nothing: the turn failed before it could answer.")
    elif not view.answers.delivered:
        said = tag("p", "Nothing yet.")
    elif trace.delivered is None:
        said = tag("p", "Nothing: the turn ended without saying anything.")
    else:
        said = tag("blockquote", _body(view, trace.delivered))
    parts = [said]
    if trace.delivery is not None:
        reached = trace.delivery.status == "delivered"
        text = f"{trace.delivery.status} {clock(trace.delivery.at, date=True)}"
        text += f": {trace.delivery.detail}" if trace.delivery.detail else ""
        parts.append(tag("p", f"Delivery: {text}", class_="good" if reached else "bad"))
    if trace.missing:
        parts.append(tag("p", f"Without {', '.join(trace.missing)}.", class_="warn"))
    return join(*parts)


def _names(view: TurnView, steps: Sequence[StepTrace], none: str) -> Markup:
    if not steps:
        return tag("p", none)
    shown = steps if view.everything else steps[:_LISTED_MAX]
    items = [part for step in shown for part in (_link(step), Markup(" "))]
    return join(tag("p", *items), _more(len(steps) - len(shown)))


def _more(count: int) -> Markup | None:
    return tag("p", f"… and {count:,} more: --all", class_="faint") if count > 0 else None


def _link(step: StepTrace) -> Markup:
    return tag("a", step.step_id, href=f"#step-{step.n}")


def _pill(step: StepTrace) -> Markup:
    look = LOOKS.get(step.status, "faint")
    return tag("span", step.status.replace("_", " "), class_=f"tag {look}")


def _body(view: TurnView, value: Any) -> Markup:
    text = pretty(value)
    most = len(text) if view.everything else BODY_CHARS_MAX
    cut = "" if len(text) <= most else f"\n… ({len(text):,} characters; --all has all)"
    return tag("pre", text[:most] + cut)


# ------------------------------------------------------------------ drawings and steps


def _drawings(view: TurnView) -> Markup:
    return join(
        tag(
            "section",
            tag("h2", "Timeline"),
            draw_timeline(view.trace, everything=view.everything),
            id="timeline",
        ),
        tag(
            "section",
            tag("h2", "Causes"),
            draw_graph(view.trace, everything=view.everything),
            id="causes",
        ),
    )


def _steps(view: TurnView) -> Markup:
    steps = view.trace.steps
    room = BODIES_CHARS_MAX // max(1, 2 * len(steps))
    most = None if view.everything else max(BODY_CHARS_MIN, min(BODY_CHARS_MAX, room))
    asked: dict[int, list[Asked]] = {}
    for one in view.questions:
        asked.setdefault(one.n, []).append(one)
    few = PROMPTS_MAX if len(steps) < LONG_STEPS else PROMPTS_LONG_MAX
    wanted = _prompts(steps, PROMPTS_ALL_MAX if view.everything else few)
    used: dict[str, list[str]] = {}
    for step in steps:
        for cause in step.causes:
            used.setdefault(cause, []).append(step.step_id)
    numbers = {step.step_id: step.n for step in steps}
    last: dict[str, tuple[str, Prompt]] = {}
    made: list[Markup] = []
    for step in steps:
        prompt = view.prompt(step) if step.n in wanted else None
        before = last.get(prompt.branch) if prompt is not None else None
        made.append(
            step_section(
                StepView(
                    step,
                    prompt,
                    before,
                    asked.get(step.n, ()),
                    used.get(step.step_id, ()),
                    numbers,
                    most,
                )
            )
        )
        if prompt is not None:
            last[prompt.branch] = step.step_id, prompt
    note = f"Bodies are cut at {most:,} characters; --all has them whole." if most else None
    return tag(
        "section",
        tag("h2", "Steps"),
        tag("p", note, class_="faint") if note else None,
        *made,
        id="steps",
    )


def _prompts(steps: Iterable[StepTrace], most: int) -> frozenset[int]:
    """Return the steps of which the page has the prompt: the first, and rather more at the end."""
    asking = [step.n for step in steps if step.kind == "model"]
    if len(asking) <= most:
        return frozenset(asking)
    return frozenset([*asking[: most // 3], *asking[-(most - most // 3) :]])
