"""The window: a conversation from which prompts are assembled, of a turn or of a whole session.

Keeps: every prompt extends the one before, until the window is compacted; a prompt under no
pressure is the conversation itself; what is compacted is decided by the policy and the
conversation alone, and can be applied again from its record.
Leaves to whoever drives it: asking a model for a summary, and writing down what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from undercroft.errors import ContextError
from undercroft.layers.context.compaction import Plan, Scene, make_plan
from undercroft.layers.context.conversation import Conversation, with_text
from undercroft.layers.context.counting import Counts
from undercroft.layers.context.guard import overflow
from undercroft.layers.context.identifiers.facts import leaves
from undercroft.layers.context.items import Fate, Item
from undercroft.layers.context.loss import LossReport, lines_of
from undercroft.layers.context.memory import Memory
from undercroft.layers.context.policy import ContextPolicy, Section
from undercroft.layers.context.quality.score import Alarm
from undercroft.layers.context.summaries.summary import (
    Invalid,
    Source,
    Summary,
    ask,
    read,
    render,
    replaced,
    said,
)
from undercroft.layers.context.tombstone import handle_of, item_of, piece, tombstone
from undercroft.layers.context.view import View
from undercroft.model.message import Message, ToolSpec, Usage

# A window that could not be brought down to its mark is left alone until it has grown by this
# part of what lies between its marks.
GROWTH = 0.25
# What a summary may be longer than it was planned with.
SUMMARY_SLACK = 1.2
# A request for a summary may be as long as the window, and at least this.
REQUEST_TOKENS_MIN = 4_096


class Compaction(NamedTuple):
    """What a compaction did: all that is needed to do the very same again.

    Attributes:
        why: `high_water`, `share` or `overflow`.
        before: Tokens of the prompt as it was.
        after: Tokens of it as it is.
        target: Tokens of the low-water mark.
        fates: What became of items, as (id, fate, tokens before, after, reason, handle).
        ledger: What the ledger reads from now on.
        summary: The summary that was made.
        forgot: Ids of summaries that are shown no more.
        failed: Why a summary that was asked for was not used.
        short: Why the low-water mark was not reached.
    """

    why: str
    before: int
    after: int
    target: int
    fates: tuple[tuple[int, str, int, int, str, str], ...]
    ledger: str = ""
    summary: Summary | None = None
    forgot: tuple[int, ...] = ()
    failed: str = ""
    short: str = ""


class Window(Conversation):
    """The conversation of a turn, or of a session. What a handler writes to it is `turn.context`.

    Without a policy it is what was said, however long.

    Args:
        policy: How large it is, and what leaves it when it fills up.
        counts: What counts tokens; needed with a policy.
        memory: What keeps identifiers and watches the quality; needed with a policy.
        turn: Number of the first turn.
    """

    __slots__ = (
        "_asked_tokens",
        "_failures",
        "_settled",
        "_stones",
        "_summaries",
        "_summary_ids",
        "_tools",
    )

    def __init__(
        self,
        policy: ContextPolicy | None = None,
        counts: Counts | None = None,
        memory: Memory | None = None,
        *,
        turn: int = 0,
    ) -> None:
        super().__init__(policy, counts, memory, turn)
        self._asked_tokens = self._settled = 0
        self._summaries: list[Summary] = []
        self._summary_ids = self._failures = 0
        # What a compaction that is being planned would put in the place of items.
        self._stones: dict[int, Message] = {}
        self._tools: tuple[ToolSpec, ...] = ()

    def anew(self) -> None:
        """Begin the conversation anew: whoever leads it has another one now."""
        super().anew()
        self._asked_tokens = self._settled = 0
        self._summaries = []
        self._stones = {}

    # ------------------------------------------------------------------ tokens

    @property
    def policy(self) -> ContextPolicy | None:
        """How large it is, and what leaves it."""
        return self._policy

    @property
    def tokens(self) -> int:
        """Of the prompt as it is now: what the provider would count, as far as it is known."""
        return self._anchor.estimate(self._view.tokens)

    @property
    def counted_tokens(self) -> int:
        """Of the prompt as it is now, as we count."""
        return self._view.tokens

    @property
    def anchored(self) -> bool:
        """Whether `tokens` rests on what the provider reported."""
        return self._anchor.anchored

    @property
    def cached_tokens(self) -> int:
        """Of the prompt, what the model was sent before just so."""
        return self._stable

    def sections(self) -> dict[Section, int]:
        """Return the tokens of each section, as we count them."""
        return self._view.sections()

    def offer(self, tools: Sequence[ToolSpec]) -> None:
        """Say which tools go with the prompt."""
        if self._counts is None or tools is self._tools:
            return
        others = bool(self._tools) and tuple(tools) != self._tools
        self._tools = tuple(tools)
        self.offered(self._counts.tools(self._tools))
        if others:
            self._forget_prompt()

    def offered(self, tokens: int) -> None:
        """Say what the tools weighed that went with a prompt, where they are not known any more."""
        if tokens != self._view.tools_tokens:
            self._view.tools_tokens = tokens
            self._forget_prompt()

    def asked(self) -> int:
        """Take note that the prompt goes to the model as it is now; return what had gone before."""
        seen = self._view.seen
        self._asked_tokens = self._view.tokens
        self._view.seen = len(self._view.live)
        return seen

    def not_asked(self, seen: int) -> None:
        """Take note that it did not go after all; `seen` is what `asked` returned."""
        self._view.seen = seen

    def heard(self, usage: Usage | None) -> str:
        """Take note of what the provider counted; return why it was not believed, if it was not."""
        self._stable = self._asked_tokens
        return self._anchor.heard(usage, self._asked_tokens)

    # ------------------------------------------------------------------ compaction

    def pressure(self) -> str:
        """Say why the window should be compacted now; empty where it need not be."""
        policy, view = self._policy, self._view
        if policy is None:
            return ""
        tokens = self.tokens
        if tokens > policy.capacity_tokens:
            # Where the mark is the capacity itself, this is what reaching it looks like.
            return "overflow" if policy.high_tokens < policy.capacity_tokens else "high_water"
        grown = GROWTH * (policy.high_tokens - policy.low_tokens)
        if self._settled and view.tokens < self._settled + grown:
            return ""
        if tokens > policy.high_tokens:
            return "high_water"
        sections = view.sections()
        for section in (Section.RECENT, Section.CURRENT):
            most = policy.share(section).max_share
            if most < 1 and sections[section] > most * policy.capacity_tokens:
                return "share"
        return ""

    @property
    def may_summarise(self) -> bool:
        """Whether summaries have not failed too often in a row."""
        policy = self._policy
        return policy is not None and self._failures < policy.summary_failures_max

    def plan(self, why: str, *, summarised: bool) -> Plan:
        """Decide what to do about a window that is too full; nothing changes yet.

        Args:
            why: As `pressure` said.
            summarised: Whether somebody can write a summary.
        """
        policy, counts, memory, view = self._parts()
        most = int(policy.share(Section.LEDGER).max_share * policy.capacity_tokens)
        # The most that it could read: what it will is known only once it is known what leaves.
        ledger = memory.render(most - self._framing, counts.text, lambda _: True)
        scene = Scene(
            view.live,
            view.open_at,
            view.seen,
            view.fixed_tokens,
            self._note_tokens(ledger),
            tuple([self._note_tokens(render([one])) for one in self._summaries]),
            max(1.0, self.tokens / max(1, view.tokens)),
        )
        return make_plan(scene, policy, self._stone, why=why, summarised=summarised)

    def _note_tokens(self, text: str) -> int:
        _, counts, _, _ = self._parts()
        return counts.message(Message("user", text)) if text else 0

    @property
    def _framing(self) -> int:
        """What a note costs besides its text."""
        _, counts, _, _ = self._parts()
        return counts.message(Message("user", ""))

    def _stone(self, item: Item) -> int:
        policy, counts, _, _ = self._parts()
        text = tombstone(item, handle_of(item.id), recall=policy.recall)
        shown = with_text(item.message, text)
        self._stones[item.id] = shown
        return counts.message(shown)

    def _parts(self) -> tuple[ContextPolicy, Counts, Memory, View]:
        policy, counts, memory = self._policy, self._counts, self._memory
        assert policy is not None  # noqa: S101  who compacts has one
        assert counts is not None  # noqa: S101  and with it these
        assert memory is not None  # noqa: S101  likewise
        return policy, counts, memory, self._view

    def summary_request(self, plan: Plan) -> tuple[Message, ...]:
        """Return the prompt that asks for the summary which a plan wants."""
        policy, counts, _, _ = self._parts()
        sources, required, earlier = self._summarised(plan)
        return ask(
            sources,
            required,
            earlier,
            plan.summary_max,
            count=counts.text,
            request_tokens_max=max(policy.capacity_tokens, REQUEST_TOKENS_MIN),
        )

    def _summarised(self, plan: Plan) -> tuple[list[Source], list[str], list[Summary]]:
        """Return what a summary is made of, what it must copy, and which ones it replaces."""
        _, counts, memory, _ = self._parts()
        earlier = self._summaries[: plan.merged]
        required = memory.required(plan.covered, said(earlier), plan.summary_max, counts.text)
        return [source_of(item) for item in plan.covered], required, earlier

    def read_summary(self, plan: Plan, text: str) -> Summary | Invalid:
        """Check what a model made of it; what is no good changes nothing."""
        _, counts, memory, _ = self._parts()
        sources, required, earlier = self._summarised(plan)
        shown = sum(item.shown_tokens for item in plan.covered)
        return read(
            text,
            sources,
            required,
            earlier,
            self._summary_room(plan),
            counts.text,
            self._summary_ids + 1,
            memory.knows,
            memory.identifiers,
            replaces_tokens=shown + (counts.text(render(earlier)) if earlier else 0),
        )

    def _summary_room(self, plan: Plan) -> int:
        """Return what a summary may have: a model may miss what it is told by a little."""
        policy = self._policy
        assert policy is not None  # noqa: S101  who compacts has one
        most = policy.share(Section.SUMMARIES).max_share * policy.capacity_tokens
        others = self._note_tokens(render(self._summaries[plan.merged :]))
        room = int(most) - others - self._framing
        # Also no more than is free besides what is planned.
        factor = max(1.0, self.tokens / max(1, self._view.tokens))
        free = plan.summary_max + int(policy.capacity_tokens / factor) - plan.after
        return max(plan.summary_max, min(int(plan.summary_max * SUMMARY_SLACK), room, free))

    def compact(self, plan: Plan, summary: Summary | None = None, failed: str = "") -> Compaction:
        """Do what was planned; return the record of it.

        Args:
            plan: Made for the window as it is.
            summary: That it wanted.
            failed: Why one that was asked for is not used.
        """
        policy, counts, memory, view = self._parts()
        before = self.tokens
        gone = plan.merged if summary is not None else plan.forgotten
        left = [*self._summaries[gone:], *([] if summary is None else [summary])]
        changed = tuple(
            (
                item,
                str(change.fate),
                change.item.shown_tokens,
                change.tokens,
                change.reason,
                handle_of(item) if change.fate is Fate.ELIDED else change.item.handle,
            )
            for item, change in sorted(plan.changes.items())
        )
        going = {item for item, change in plan.changes.items() if change.fate is not Fate.KEPT}
        still = [*(m.content for m in (*view.system, *view.pins)), *said(left)]
        absent = memory.absent_without(going, still)
        shown = sum(i.shown_tokens for i in view.live if i.id not in plan.changes)
        shown += sum(change.tokens for change in plan.changes.values())
        shown += view.fixed_tokens + self._note_tokens(render(left))
        capacity = int(policy.capacity_tokens / max(1.0, before / max(1, view.tokens)))
        if shown > capacity and summary is not None:
            plan = self.plan(plan.why, summarised=False)
            return self.compact(plan, failed="with it the prompt would not fit")
        room = min(plan.ledger_max, capacity - shown) - self._framing
        ledger = memory.render(room, counts.text, absent) if room > 0 else ""
        smaller = shown + self._note_tokens(ledger) < view.tokens
        if shown > capacity or not (smaller or before > policy.capacity_tokens):
            # It would not fit anyway, or be no smaller: all stays as it is.
            changed, gone, summary, ledger = (), 0, None, view.ledger
        record = Compaction(
            plan.why,
            before,
            0,
            plan.target,
            changed + self._forgotten(self._summaries[:gone], summary),
            ledger,
            summary,
            tuple([one.id for one in self._summaries[:gone]]),
            failed,
            "",
        )
        self.apply(record)
        short = plan.short if view.tokens > plan.target else ""
        if not short and (record.fates or record.forgot):
            self._settled = 0
            if self.pressure():
                short = "a section takes more than its share, and no more may be taken of it"
        elif not short:
            short = "what may be taken would not make it smaller"
        self._settled = view.tokens if short else 0
        return record._replace(after=self.tokens, short=short)

    def _forgotten(
        self, forgot: Sequence[Summary], new: Summary | None
    ) -> tuple[tuple[int, str, int, int, str, str], ...]:
        """Return what becomes of items whose summary is shown no more."""
        still = set() if new is None else set(new.covers)
        reason = "its summary is shown no more"
        items = [item for one in forgot for item in one.covers if item not in still]
        return tuple([(item, str(Fate.DROPPED), 0, 0, reason, "") for item in sorted(items)])

    def apply(self, record: Compaction, *, counted: bool = True) -> None:
        """Do what a compaction did.

        Args:
            record: As it was written down.
            counted: Whether its tokens are by the counter of this window.
        """
        policy, counts, memory, view = self._parts()
        if not record.fates and not record.forgot and record.ledger == view.ledger:
            # Nothing could be done, and the prompt is the one that it was.
            self._failures += bool(record.failed)
            self._settled = view.tokens
            return
        touched: list[Item] = []
        for number, fate, _, size, reason, handle in record.fates:
            item = self._by_id.get(number)
            if item is None:
                continue  # of a turn whose record was cut short
            shown = None
            if fate == Fate.ELIDED:
                shown = self._stones.get(number)
                if shown is None:
                    text = tombstone(item, handle, recall=policy.recall)
                    shown = with_text(item.message, text)
                item.handle, item.left_in = handle, self._turn
            weighs = size if counted or shown is None else counts.message(shown)
            item.show(Fate(fate), shown, weighs, reason)
            touched.append(item)
        if record.summary is not None:
            memory.supersede(replaced(record.summary, self._summaries), record.summary.covers)
        forgot = set(record.forgot)
        self._summaries = [one for one in self._summaries if one.id not in forgot]
        if record.summary is not None:
            self._summaries.append(record.summary)
            self._summary_ids = max(self._summary_ids, record.summary.id)
            self._failures = 0
        elif record.failed:
            self._failures += 1
        touched += self._keep_groups_whole()
        view.set_notes(record.ledger, render(self._summaries))
        view.show(view.without_gone())
        self._stones.clear()
        self._anchor.forget()
        head = view.sections()
        fixed = sum(head[s] for s in (Section.SYSTEM, Section.TOOLS, Section.PINS))
        self._stable = min(self._stable, fixed)
        self._settled = view.tokens if record.short else 0
        memory.compacted([record.ledger, *said(self._summaries)], touched)

    def _keep_groups_whole(self) -> list[Item]:
        """Show the whole of a group of which something has to be shown; return what came back.

        Only where a turn was resumed after the compaction of a later one has it members that
        that one did not know of; they are no part of what it summarised or dropped.
        """
        live = self._view.live
        gone = {i.group for i in live if i.fate in (Fate.DROPPED, Fate.SUMMARISED)}
        torn = {i.group for i in live if i.group in gone and i.fate in (Fate.KEPT, Fate.ELIDED)}
        back = [i for i in live if i.group in torn and i.shown is None]
        for item in back:
            item.show(Fate.KEPT, item.message, item.tokens, "")
        return back

    def check_fits(self) -> None:
        """Raise if the prompt does not fit, as it is.

        Raises:
            ContextOverflowError: It does not.
        """
        if self._policy is not None and self.tokens > self._policy.capacity_tokens:
            raise overflow(self._policy, self.tokens, self._view.sections(), self._largest())

    def _largest(self) -> Item | None:
        return max(self._view.live, key=lambda item: item.shown_tokens, default=None)

    # ------------------------------------------------------------------ looking back

    def recall(self, handle: str, start: int = 0, end: int | None = None) -> str:
        """Return what a handle stands for, or characters `start` to `end` of it.

        Raises:
            ContextError: There is no such handle, it has expired, or the range lies outside.
        """
        number = item_of(handle)
        item = None if number is None else self._by_id.get(number)
        if item is None or not item.handle:
            raise ContextError(
                f"recall({handle!r:.60})",
                "nothing was left out under that handle",
                "Copy the handle whole, as it stands in the text.",
            )
        if not self._reachable(item):
            raise ContextError(
                f"recall({handle!r})",
                "it has expired: it was left out too many turns ago",
                "Call the tool again that returned it.",
            )
        return piece(item.message.content, handle, start, end)

    def _reachable(self, item: Item) -> bool:
        kept = 0 if self._policy is None else self._policy.recall_turns
        return bool(item.handle) and self._turn - item.left_in <= kept

    def recalled(self, handle: str, start: int = 0, end: int | None = None) -> str:
        """Return what a model reads that recalls something: as much of it as a result may have.

        Raises:
            ContextError: There is no such handle, it has expired, or the range lies outside.
        """
        text = self.recall(handle, start, end)
        if self._policy is None or self._counts is None:
            return text
        # Some room for what frames a result.
        room = max(1, self._policy.result_max_tokens * 9 // 10 - 16)
        size = len(text)
        while size > 1 and self._counts.text(text[:size]) > room:
            size = min(size - 1, size * room // self._counts.text(text[:size]))
        if size == len(text):
            return text
        return f"{text[:size]}\n[undercroft: the next begins at start={start + size}]"

    def report(self) -> LossReport:
        """Return what the prompt shows of each item, and what it does not."""
        policy, view = self._policy, self._view
        return LossReport(
            tokens=view.tokens,
            estimate=self.tokens,
            limit_tokens=None if policy is None else policy.limit_tokens,
            reserved_tokens=0 if policy is None else policy.reserved_tokens,
            sections={str(name): tokens for name, tokens in view.sections().items()},
            lines=lines_of(view, self._items, self._reachable),
        )

    def prompt(self, *, later: bool = False) -> Alarm | None:
        """Watch the prompt that is about to be sent; return an alarm if the quality fell.

        Args:
            later: Whether that may wait, since the prompt was sent long ago.
        """
        if self._memory is None:
            return None
        said = [message.content for message in self._view.head]
        pins = all(said.count(pin) == 1 for pin in self._pins)
        return self._memory.prompt(pins=pins, later=later)

    @property
    def memory(self) -> Memory | None:
        """What keeps identifiers and watches the quality."""
        return self._memory

    @property
    def summaries(self) -> Sequence[Summary]:
        """What stands for what was summarised, oldest first."""
        return self._summaries


def source_of(item: Item) -> Source:
    """Return an item as whoever summarises reads it."""
    lines = [item.message.content] if item.message.content else []
    for call in item.message.calls:
        given = "; ".join(f"{name}: {value}" for name, value in leaves(call.arguments))
        lines.append(f"calls {call.name} with {given}" if given else f"calls {call.name}")
    role = item.kind if not item.message.name else f"{item.kind} of {item.message.name}"
    return Source(item.id, str(role), "\n".join(lines).strip())
