"""What a line of a handler's code asks its model: the prompt that fits, sent and written down.

Keeps: a line that asks the model sends all that it sent before, and more, until its window is
compacted; what a recorded prompt showed, a replay shows again; nothing that does not fit is
sent. What a compaction does is written down with the prompt that it was made for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from undercroft.engine.body import Body
from undercroft.engine.calls import by_reference, model_body, read_answer
from undercroft.engine.codec import decode, encode
from undercroft.engine.handler import Handler
from undercroft.engine.linerun import check_open, looped
from undercroft.engine.log import TurnLog
from undercroft.engine.memo import Memo, Record
from undercroft.engine.modelrun import ModelRun, others_of
from undercroft.engine.models import Listening, Sent, name_of, sent_by
from undercroft.engine.recall import check_names, recall_of
from undercroft.engine.rehearsal import Digest
from undercroft.engine.step import Ended, Setting, Step, end_of
from undercroft.engine.turn import Line
from undercroft.engine.windows import Opened, Room
from undercroft.errors import ContextOverflowError, DeclarationError, ModelError
from undercroft.layers.breakers.exits import in_words
from undercroft.layers.breakers.guard import withdrawn
from undercroft.layers.context.conversation import NOTICE, Entry
from undercroft.layers.context.fold import compaction_of
from undercroft.layers.context.quality.score import PARTS, Alarm, Score
from undercroft.layers.context.state import Compaction, Window
from undercroft.layers.context.summaries.summary import Summary
from undercroft.model.event import (
    NIL,
    ContextAlarmed,
    ContextCompacted,
    ContextLeft,
    ContextOpened,
    ContextScored,
    Event,
    PromptAssembled,
    StepEnded,
)
from undercroft.model.ids import fingerprint
from undercroft.model.message import Answer, Listener, ModelRequest, ToolSpec
from undercroft.model.outcome import TurnStatus
from undercroft.model.step import MODEL, SUMMARY, StepStatus, failure
from undercroft.ports import ModelClient

OVERFLOW = ContextOverflowError.__name__
UNKNOWN = -1
# The rule of a `ModelError` whose answer ended in the middle of its only calls.
CUT_OFF = "context.cut_off"


class AskRun(ModelRun):
    """What of a handler's turn asks models."""

    def __init__(  # noqa: PLR0913, PLR0917  what a run is made of
        self,
        setting: Setting,
        log: TurnLog,
        memo: Memo,
        turn_id: str,
        session: str | None,
        handler: Handler[..., Any],
        inputs: Mapping[str, Any],
    ) -> None:
        self.room: Room | None = setting.windows.room(handler.context)
        if self.room is not None:
            check_names(handler.name, self.room.policy, handler.tools)
        self.opened: Opened | None = None
        # What its prompts are assembled under, once that is written down.
        self.under: ContextOpened | None = memo.context
        # Whether the handler's code may still be at work, since it ignores being cancelled.
        self.left_behind = True
        self.instead = {}
        super().__init__(setting, log, memo, turn_id, session, handler, inputs)

    # ------------------------------------------------------------------ windows

    def window(self) -> Window:
        """Return a window for a new line of code."""
        if self.room is None:
            return Window()
        turn = 0 if self.opened is None else self.opened.turn
        return self.room.window(turn)

    def open_window(self) -> None:
        """Give the turn the window of its session."""
        if self.room is None:
            return
        opened = self.setting.windows.take(self.room, self.session, self.turn_id, self.under)
        self.opened, self.line.window = opened, opened.window
        self.line.told = opened.window.told
        policy = self.room.policy
        if self.under is not None and self.under.policy == policy.hash:
            return
        # At once: the number of the turn is what later ones count on.
        changed = policy.hash != opened.was
        self.under = ContextOpened(
            opened.turn,
            policy.hash,
            self.wall_s(),
            msgspec.Raw(encode(policy.settings)) if changed else NIL,
            opened.was if changed else "",
            policy.vocabulary,
            opened.seen,
            opened.hidden,
        )
        self.log.note(self.under)

    def sum_up(self) -> None:
        """Write down what the turn said after its last prompt, and how good the context was."""
        opened = self.opened
        if opened is None:
            return
        left = [by_reference(entry) for entry in opened.window.unsent()]
        self.log.note(ContextLeft(msgspec.Raw(encode(left)), self.wall_s()))
        memory = opened.window.memory
        if memory is None or self.under is None:
            return
        turn, session = memory.turn_score, memory.session_score
        parts = tuple(_known(session.parts[name]) for name in PARTS)
        self.log.note(
            ContextScored(_value(turn), _value(session), parts, session.seen, self.wall_s())
        )

    def hand_on(self, status: TurnStatus) -> None:
        """Leave the window to the session's next turn, if this one is over."""
        if self.opened is not None and status.final and not self.left_behind:
            # Code that outlives its turn keeps the window that was its own.
            window = self.opened.window.hand_over()
            was = self.opened.was if self.under is None else self.under.policy
            opened = replace(self.opened, window=window, was=was)
            self.setting.windows.give(self.session, self.turn_id, opened)

    # ------------------------------------------------------------------ asking

    async def ask_model(self, line: Line, on_text: Listener | None = None) -> Answer:
        """Assemble the prompt of a line, send it, and return the answer."""
        self.check_model()
        check_open(line)
        await self.check_spinning(line)
        if self.room is not None:
            line.window.close_calls()
        before, digest = line.window.mark(), line.prompt.copy()
        line.asking = 0
        try:
            n, ended = await self._send_prompt(
                line, None if on_text is None else Listening(on_text)
            )
        except BaseException:
            if line.asking in self.noted:
                line.made.clear()
            elif line.window.put_back(before):
                # Of what no step tells the next prompt has to.
                line.prompt = digest
            raise
        if ended.status is not StepStatus.OK:
            raise _unanswered(line, ended)
        line.last = (n,)
        line.answers += 1
        answer = line.window.named(read_answer(ended.raw), n)
        line.window.heard(answer.usage)
        line.window.add_answer(answer, n)
        if line.loops is not None and not answer.calls:
            line.loops.said(fingerprint(answer.text))
        if answer.cut and not answer.calls:
            # A handler would take it for the end of the turn, and its text for the reply.
            raise _cut_off(answer)
        return answer

    async def _send_prompt(self, line: Line, told: Listening | None = None) -> tuple[int, Ended]:
        """Send the prompt of a line; return the number of the step that ended it, and how."""
        fresh = line.window.delta()
        for entry in fresh:
            line.prompt.update(self.log.redactor.fixed(encode(entry.message)))
        fp = line.prompt.digest()
        record = self.memo.take(MODEL, fp) if self.memo.left else None
        others = others_of(self.memo, record, fp)
        if record is None and self.setting.rehearsal is not None:
            self.setting.rehearsal.asked = ModelRequest(line.window.messages)
        if record is None and self.memo.left and not self.memo.holds(SUMMARY, _summary_fp(fp)):
            await self.other_branches(MODEL)
        shut, notices = self._news(line, record)
        # No part of the fingerprint: a resumed turn meets other services than the first life.
        fresh += [line.window.notice(text) for text in notices]
        offered = self._offered(line, shut)
        async with self.at_work():
            if self.room is not None:
                await self._make_room(line, fp, record)
            n = record.n if record is not None else self.log.next_n()
            line.asking = n
            if record is not None:
                self.noted.add(n)
            alarm = line.window.prompt()
            request = self._request(line, offered, told)
            if record is not None and record.ended is not None:
                ended = end_of(record.ended)
                if self.setting.rehearsal is not None:
                    self.setting.rehearsal.compare(record, request, self.log.redactor)
                if record.started is not None:
                    line.window.asked()
            else:
                step = self._asking(line, n, fp, fresh, shut, request)
                if record is None and self.room is not None:
                    step = step._replace(notes=self._notes(line, n, alarm))
                ended = await self._send(line, step, record)
                self.log.put()
            n, ended = await self.another(line, n, ended, request, fp, others)
            await _tell(told, ended)
        line.made.clear()
        return n, ended

    def client(self, line: Line) -> ModelClient:
        """Return what a line asks."""
        del line
        model = self.setting.model
        assert model is not None  # noqa: S101  asked for before
        return model

    def check_model(self) -> None:
        """Raise if there is no model to ask.

        Raises:
            DeclarationError: There is none.
        """
        if self.setting.model is None:
            raise DeclarationError(
                f"handler {self.handler.name!r}",
                "it asks a model, and there is none",
                "Give one: uc.Runtime(…, model=…) or @uc.handler(model=…).",
            )

    def _offered(self, line: Line, shut: Mapping[str, Sequence[str]]) -> tuple[ToolSpec, ...]:
        """Return the tools that go with the prompt, and let the window weigh them."""
        away = {name for names in shut.values() for name in names}
        specs = self.handler.specs
        if away:
            specs = tuple(spec for spec in specs if spec.name not in away)
        if self.room is None:
            return specs
        if self.room.policy.recall:
            if line.recall is None:
                line.recall = recall_of(line.window)
            specs = (*specs, line.recall.spec)
        line.window.offer(specs)
        return specs

    def _asking(  # noqa: PLR0913, PLR0917  what a prompt is made of
        self,
        line: Line,
        n: int,
        fp: bytes,
        fresh: Sequence[Entry],
        shut: Mapping[str, Sequence[str]],
        request: ModelRequest,
    ) -> Step:
        """Return the step that sends the prompt."""
        model, offered = self.client(line), request.tools
        asked: dict[str, Any] = {"prompt": [by_reference(entry) for entry in fresh]}
        if shut:
            asked["withdrawn"] = shut
        name = name_of(model)
        # What went with the prompt before is not said again.
        if line.offered is None or line.offered[0] != offered:
            asked["tools"] = [[spec.name, spec.description, spec.parameters] for spec in offered]
        if line.offered is None or line.offered[1] != name:
            asked["model"] = name
        if line.anew:
            asked["anew"], line.anew = True, False
        asked["sha"] = line.digest.of(request, self.log.redactor)
        sent = self.sent(line, model, request)
        wire = None if sent is None else sent.plain
        if sent is not None:
            if line.offered is None or line.offered[2] != wire:
                asked["wire"] = wire
            asked["body"] = sent.digest()
        line.offered = offered, name, wire
        return Step(
            n,
            MODEL,
            model_body(model, sent=sent),
            MODEL,
            {"request": request},
            fp,
            line.last,
            (),
            msgspec.Raw(encode(asked)),
            branch=line.name,
        )

    def _request(
        self, line: Line, offered: tuple[ToolSpec, ...], told: Listening | None
    ) -> ModelRequest:
        """Return what goes to the model."""
        # A script cannot count the answers in a prompt that does not show all of them.
        place = None if self.room is None else line.answers
        window = line.window
        return ModelRequest(
            window.messages,
            offered,
            breakpoints=window.breakpoints,
            place=place,
            on_text=told,
        )

    async def _send(self, line: Line, step: Step, record: Record | None) -> Ended:
        """Send a prompt that fits; end the step of one that does not."""
        try:
            line.window.check_fits()
        except ContextOverflowError as error:
            lost = failure(error, step=MODEL)
            self.log.note_all(step.notes)
            self.noted.add(step.n)
            self.log.note(
                StepEnded(
                    step.n,
                    StepStatus.FAILED,
                    0.0,
                    error=lost,
                    name=MODEL,
                    fp=step.fp,
                    args=step.args,
                    at=self.wall_s(),
                    causes=step.causes,
                    branch=step.branch,
                )
            )
            return Ended(StepStatus.FAILED, error=lost)
        # Before it is known whether it went: a turn may be cut off while it waits for the answer.
        seen = line.window.asked()
        ended = await self.perform(step, record)
        if ended.refusal is not None:
            line.window.not_asked(seen)
        return ended

    # ------------------------------------------------------------------ making room

    async def _make_room(self, line: Line, fp: bytes, record: Record | None) -> None:
        """Compact the window where it is too full.

        Of a prompt that is recorded, what was written down is done again.
        """
        window = line.window
        if record is not None:
            for event in self.memo.compacted.get(record.n, ()):
                if event.summary_n:
                    self.memo.take(SUMMARY, _summary_fp(fp))
                window.apply(compaction_of(event))
            return
        why = window.pressure()
        if not why:
            return
        summarised = self.room is not None and self.room.summariser is not None
        plan, n = window.plan(why, summarised=summarised and window.may_summarise), 0
        found, failed = None, ""
        if plan.covered:
            request = window.summary_request(plan)
            found, failed, n = await self._summarise(line, fp, request, plan)
            if found is None:
                plan = window.plan(why, summarised=False)
        line.made.append((window.compact(plan, found, failed), n))

    async def _summarise(
        self, line: Line, fp: bytes, messages: Sequence[Any], plan: Any
    ) -> tuple[Summary | None, str, int]:
        """Have a summary written; return it, or why there is none, and the step's number."""
        room = self.room
        assert room is not None  # noqa: S101  who compacts has one
        assert room.summariser is not None  # noqa: S101  it was planned with
        fp = _summary_fp(fp)
        record = self.memo.take(SUMMARY, fp) if self.memo.left else None
        if record is not None and record.ended is not None:
            n, ended = record.n, end_of(record.ended)
        else:
            n = record.n if record is not None else self.log.next_n()
            covers = [item.id for item in plan.covered]
            asked = {"covers": covers, "merges": plan.merged, "tokens_max": plan.summary_max}
            request = ModelRequest(tuple(messages), output_tokens_max=None)
            sent = sent_by(room.summariser, request, self.log.redactor, Digest())
            if sent is not None:
                name = name_of(room.summariser)
                asked |= {"model": name, "wire": sent.plain, "body": sent.digest()}
            step = Step(
                n,
                SUMMARY,
                self._summarising(room.summariser, sent),
                MODEL,
                {"request": request},
                fp,
                line.last,
                (),
                msgspec.Raw(encode(asked)),
                branch=line.name,
            )
            ended = await self.perform(step, record)
        if ended.status is not StepStatus.OK:
            return None, in_words(ended.error, ended.refusal), n
        found = line.window.read_summary(plan, read_answer(ended.raw).text)
        if isinstance(found, Summary):
            return found, "", n
        return None, found.problem, n

    def _summarising(self, summariser: ModelClient, sent: Sent | None) -> Body:
        # Another client has a breaker of its own, whatever it fails by.
        service = MODEL if summariser is self.setting.model else SUMMARY
        return model_body(summariser, SUMMARY, service, sent)

    # ------------------------------------------------------------------ writing down

    def _notes(self, line: Line, n: int, alarm: Alarm | None) -> tuple[Event, ...]:
        """Return what is to be written down of a prompt, as far as it is new."""
        window, at = line.window, self.wall_s()
        policy, memory = window.policy, window.memory
        assert policy is not None  # noqa: S101  there is a window of some size
        assert memory is not None  # noqa: S101  likewise
        notes: list[Event] = [_compacted(n, made, by, line.name, at) for made, by in line.made]
        notes.append(
            PromptAssembled(
                n,
                window.tokens,
                policy.reserved_tokens,
                tuple(window.sections().values()),
                tuple([(item.id, item.tokens, str(item.kind)) for item in window.fresh]),
                tuple([(i.id, i.shown_tokens, i.handle) for i in window.fresh if i.handle]),
                window.cached_tokens,
                window.anchored,
                _value(memory.session_score),
                line.name,
            )
        )
        if alarm is not None and policy.alarm:
            notes.append(ContextAlarmed(n, alarm.score, alarm.level, alarm.why, at))
        return tuple(notes)

    def _news(self, line: Line, record: Record | None) -> tuple[dict[str, list[str]], list[str]]:
        """Return which tools are withdrawn, by service, and what the model is to be told.

        What a recorded prompt said, it says again.

        Raises:
            LoopError: It was told before that it gets nowhere.
        """
        stale = line.loops.model_step() if line.loops is not None else None
        if stale is not None and stale.end:
            line.spun = looped(stale, MODEL)
            raise line.spun
        if record is not None and record.started is not None:
            said = decode(record.started.args)
            self._tell(line, said.get("withdrawn", {}))
            texts = [entry[1] for entry in said["prompt"] if entry[0] == NOTICE]
            return line.told, texts
        shut: dict[str, list[str]] = {}
        for name, tool in self.handler_of(line).tools.items():
            if tool.service is None or tool.stand_in is not None:
                continue
            # Also one that was never called here: others may have found out.
            if self.setting.services.gate(tool.service).shut:
                shut.setdefault(tool.service, []).append(name)
        notices = [] if stale is None else [f"[undercroft] {stale.problem}. {stale.mend}"]
        if self._tell(line, shut):
            notices.append(withdrawn(list(shut.items())))
        return shut, notices

    @staticmethod
    def _tell(line: Line, shut: dict[str, list[str]]) -> bool:
        """Take note of what the model knows to be withdrawn; return whether that is new."""
        was, line.told = line.told, shut
        line.window.told = shut
        if line.loops is not None and any(service not in shut for service in was):
            # What is back may be called again, however often it failed before.
            line.loops.anew()
        return shut != was


def _unanswered(line: Line, ended: Ended) -> Exception:
    """Return what is raised where a model gave no answer."""
    if ended.error is not None and ended.error.type == OVERFLOW:
        try:
            line.window.check_fits()
        except ContextOverflowError as error:
            return error
    why = in_words(ended.error, ended.refusal).strip().removesuffix(".")
    rule = ended.refusal.rule if ended.refusal is not None else ""
    return ModelError(MODEL, why, "Handle it, or let the turn fail.", rule)


def _cut_off(answer: Answer) -> ModelError:
    """Return what is raised where a model's only calls were cut off in their middle."""
    return ModelError(
        MODEL,
        f"its answer was cut off within a call of {', '.join(answer.cut)}, which was not made",
        "Let answers have more tokens (output_tokens_max=), or have it ask for less at a time.",
        CUT_OFF,
    )


async def _tell(told: Listening | None, ended: Ended) -> None:
    """Tell a listener the whole of a new answer whose client does not stream."""
    if told is not None and not told.any and isinstance(ended.value, Answer) and ended.value.text:
        await told(ended.value.text)


def _summary_fp(fp: bytes) -> bytes:
    """Return what stands for the summary that a prompt wanted."""
    return fingerprint([fp, SUMMARY])


def _compacted(
    n: int, made: Compaction, summary_n: int, branch: str, at: float
) -> ContextCompacted:
    summary = NIL if made.summary is None else msgspec.Raw(encode(made.summary))
    return ContextCompacted(
        n,
        made.why,
        made.before,
        made.after,
        made.target,
        at,
        made.fates,
        made.ledger,
        summary,
        made.failed,
        made.short,
        branch,
        made.forgot,
        summary_n,
    )


def _value(score: Score) -> int:
    return UNKNOWN if score.value is None else score.value


def _known(part: float | None) -> float:
    return UNKNOWN if part is None else part
