"""What a model was sent, and what a step was given and gave: in full, for whoever drills down.

Keeps: messages stand in the order in which they were sent, each with its role; what is left out
of a long one is counted, and what shows it is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from undercroft.cli.console import columns, put, say
from undercroft.cli.outcome import bounded
from undercroft.cli.safe import brief, cut, pretty, safe
from undercroft.engine.prompts import Prompt
from undercroft.layers.context.items import Fate
from undercroft.layers.context.loss import Line, LossReport
from undercroft.model.message import Message, ToolSpec
from undercroft.model.trace import StepTrace
from undercroft.pages.words import counted

_HEAD_MAX, _TAIL_MAX = 30, 30
_LINES_MAX = 12
_CALLS_MAX = 20
_LOST_MAX = 12
_STYLES = {"system": "magenta", "user": "cyan", "assistant": "green", "tool": "yellow"}
_FATES = {Fate.ELIDED: "yellow", Fate.SUMMARISED: "cyan", Fate.DROPPED: "red"}


def print_prompt(console: Console, prompt: Prompt, *, everything: bool) -> None:
    """Print a prompt: its messages in their order, and the tools on offer."""
    say(console, prompt_words(prompt), 0, "dim")
    for doubt in prompt.doubts:
        say(console, f"! {doubt}", 0, "yellow")
    messages = prompt.messages
    left_out = len(messages) - _HEAD_MAX - _TAIL_MAX
    if everything or left_out <= 1:
        _print_messages(console, messages, 0, everything=everything)
    else:
        _print_messages(console, messages[:_HEAD_MAX], 0, everything=False)
        put(console, [Text(), Text(f"  … {left_out:,} more messages: --all", style="dim")])
        at = len(messages) - _TAIL_MAX
        _print_messages(console, messages[at:], at, everything=False)
    console.print()
    print_tools(console, prompt.tools, everything=everything)
    for service, names in prompt.withdrawn.items():
        text = f"withdrawn, since {service} is given up: {', '.join(names)}"
        say(console, safe(text), 2, "yellow")
    if prompt.body is not None:
        _print_sent_body(console, prompt, everything=everything)


def _print_sent_body(console: Console, prompt: Prompt, *, everything: bool) -> None:
    """Print the JSON body as it went over the wire, or how long it is."""
    raw = msgspec.json.encode(prompt.body)
    same = "as it was sent" if prompt.same_body else "not as it was sent"
    more = "" if everything else "; --all shows it, --json as data"
    say(console, f"JSON body of {len(raw):,} bytes, {same}{more}", 2, "dim")
    if everything:
        say(console, pretty(prompt.body), 4)


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    """Return a prompt as plain data, for programs."""
    plain = {f.name: getattr(prompt, f.name) for f in fields(prompt)}
    return plain | {"loss": None if prompt.loss is None else prompt.loss.plain()}


def prompt_words(prompt: Prompt) -> str:
    """Return in a line what a prompt is: how long, to whom, and whether it is known to be it."""
    words = [f"{len(prompt.messages):,} messages"]
    if prompt.model:
        words.append(f"to {safe(prompt.model)}")
    if prompt.branch:
        words.append(f"of branch {safe(prompt.branch)}")
    if prompt.loss is not None:
        words.append(f"{prompt.loss.tokens:,} tokens as counted")
    if not prompt.sent:
        words.append("not sent")
    if prompt.verified:
        words.append("the fingerprint of what was sent matches")
    elif prompt.redacted:
        words.append(f"as it was sent but for {counted(prompt.redacted, 'secret')}")
    else:
        words.append("not as it was sent")
    return ", ".join(words)


def _print_messages(
    console: Console, messages: Sequence[Message], first: int, *, everything: bool
) -> None:
    for place, message in enumerate(messages, first):
        whose = message.role if not message.name else f"{message.role} {message.name}"
        head = Text(f"{place:>4} ", style="dim")
        head.append(cut(safe(whose), console.width - 30), style=_STYLES.get(message.role, ""))
        if message.call_id:
            head.append(f"  {cut(safe(message.call_id), 24)}", style="dim")
        put(console, [Text(), head])
        if message.content:
            text = safe(message.content, lines=True)
            say(console, text if everything else bounded_here(text), 5)
        for call in message.calls if everything else message.calls[:_CALLS_MAX]:
            given = call.arguments
            shown = pretty(given) if everything else brief(given, console.width * 2)
            call_id = f"  {call.id}" if call.id else ""
            say(console, Text.assemble("→ ", (safe(call.name), "bold"), (safe(call_id), "dim")), 5)
            say(console, shown, 7)
        if not everything and len(message.calls) > _CALLS_MAX:
            say(console, f"… {len(message.calls) - _CALLS_MAX:,} more calls: --all", 5, "dim")


def bounded_here(text: str) -> str:
    """Return a text with at most so many lines, and how to see the rest."""
    return bounded(text, 1_500, _LINES_MAX, more="--all")


def print_tools(console: Console, tools: Sequence[ToolSpec] | None, *, everything: bool) -> None:
    """Print what a model was told that it may call."""
    if tools is None:
        say(console, "Tools on offer: this journal does not say.", 2, "dim")
        return
    if not tools:
        say(console, "No tools on offer.", 2, "dim")
        return
    say(console, f"{len(tools):,} tools on offer", 2, "dim")
    for tool in tools if everything else tools[:_CALLS_MAX]:
        first = tool.description.strip().split("\n", 1)[0]
        name = Text(cut(safe(tool.name), 24), style="bold")
        room = console.width - 32
        put(console, [columns((Text("    "), 4), (name, 26), (Text(cut(safe(first), room)), room))])
        if everything:
            say(console, pretty(tool.parameters), 6, "dim")
    if not everything and len(tools) > _CALLS_MAX:
        say(console, f"… {len(tools) - _CALLS_MAX:,} more: --all", 4, "dim")


def print_loss(console: Console, loss: LossReport, *, everything: bool) -> None:
    """Print what a prompt shows of the conversation, and what it does not."""
    console.print()
    say(console, "context", 2, "dim")
    limit = "" if loss.limit_tokens is None else f" of {loss.limit_tokens:,}"
    kept = f"{loss.tokens:,} tokens{limit}, {loss.reserved_tokens:,} kept free for the answer"
    say(console, kept, 4)
    weighs = [f"{name} {tokens:,}" for name, tokens in loss.sections.items() if tokens]
    say(console, ", ".join(weighs), 4, "dim")
    lost = [line for line in loss.lines if line.fate is not Fate.KEPT]
    if not lost:
        say(console, f"all {len(loss.lines):,} items are shown as they came", 4)
        return
    counts = [(fate, len(loss.of(fate))) for fate in Fate]
    said = ", ".join(f"{count:,} {fate}" for fate, count in counts if count)
    say(console, f"of {len(loss.lines):,} items: {said}", 4)
    shown = lost if everything else lost[:_LOST_MAX]
    put(console, [_lost_line(line, console.width) for line in shown])
    if len(lost) > len(shown):
        say(console, f"… {len(lost) - len(shown):,} more: --all", 4, "dim")


def _lost_line(line: Line, width: int) -> Text:
    why = line.reason + (f", recall {line.handle}" if line.handle else "")
    return columns(
        (Text("    "), 4),
        (Text(safe(line.item)), 10),
        (Text(safe(line.kind), style="dim"), 11),
        (Text(str(line.fate), style=_FATES.get(line.fate, "")), 12),
        (Text(f"{line.tokens:,} → {line.shown_tokens:,}"), 17),
        (Text(cut(safe(why), width - 54), style="dim"), width - 54),
    )


def print_bodies(console: Console, step: StepTrace) -> None:
    """Print all of what a step was given and gave, however long."""
    for label, value in (("arguments", step.arguments), ("value", step.value)):
        if value is not None:
            text = pretty(value)
            put(console, [Text(f"{label}, {len(text):,} characters", style="dim")])
            put(console, [Text(text), Text()])
    if step.arguments is None and step.value is None:
        say(console, "It was given nothing and gave nothing.")
