"""Healthy runs of work that is not on records: code, mail, research, jobs, two agents on a record.

Each function tells one run from a chance.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from bench.doctor.runs import Batch, Beat, Call, Say


class Caller:
    """Makes calls with ids of their own."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._number = 0

    def __call__(self, name: str, args: Mapping[str, Any], result: str, **more: Any) -> Call:
        """Return a call under the next id."""
        self._number += 1
        took = self._chance.randrange(80, 900) / 1000
        return Call(
            name=name,
            args=args,
            result=result,
            id=f"toolu_{self._number:04d}",
            took_s=took,
            **more,
        )


def coding(chance: random.Random) -> list[Beat]:
    """Mend a file until its tests pass: the same file is written again, and tested between."""
    call = Caller(chance)
    module = chance.choice(("parser", "prices", "routes", "cache"))
    path, test = f"src/{module}.py", f"tests/test_{module}.py"
    before, after = "return total", "return round(total, 2)"
    beats: list[Beat] = [
        Say("system", "You are a coding agent in a repository. Mend what the user reports."),
        Say("user", f"The tests of the {module} module fail since yesterday. Please fix it."),
        Batch((call("list_files", {"path": "src"}, f"src/{module}.py\nsrc/app.py\nsrc/cli.py"),)),
        Batch(
            (
                call("read_file", {"path": path}, f"def total(x):\n    {before}\n", key=path),
                call("read_file", {"path": test}, "def test_total():\n    ...\n", key=test),
            ),
            text="Let me look at the module and its test.",
        ),
        Batch((call("run_shell", {"command": f"pytest -q {test}"}, "1 failed, 4 passed in 0.3s"),)),
    ]
    tries = chance.choice((1, 2))
    for n in range(tries):
        args = {"path": path, "old": before, "new": after}
        if n + 1 < tries:
            args["new"] = "return int(total)"
        before = args["new"]
        beats.append(Batch((call("edit_file", args, f"Edited {path}", writes=True, key=path),)))
        last = "5 passed in 0.3s" if n + 1 == tries else "1 failed, 4 passed in 0.3s"
        beats.append(Batch((call("run_shell", {"command": f"pytest -q {test}"}, last),)))
    if chance.random() < 0.5:  # noqa: PLR2004
        note = "CHANGELOG.md"
        beats += [
            Batch((call("read_file", {"path": note}, "# Changes\n", key=note),)),
            Batch(
                (
                    call(
                        "write_file",
                        {"path": note, "content": f"# Changes\n- {module}: rounded\n"},
                        f"Wrote {note}",
                        writes=True,
                        key=note,
                    ),
                )
            ),
        ]
    beats.append(Say("assistant", f"Fixed: `{path}` rounds the total now, and its tests pass."))
    return beats


def mailing(chance: random.Random) -> list[Beat]:
    """Read a thread, answer it, and put it on the calendar: new records, and two recipients."""
    call = Caller(chance)
    ids = [f"msg_{chance.randrange(1000, 9999)}" for _ in range(3)]
    event = f"ev_{chance.randrange(1000, 9999)}"
    topic = chance.choice(("offsite", "budget", "hiring"))
    beats: list[Beat] = [
        Say("system", "You are an assistant with access to the user's mail and calendar."),
        Say(
            "user",
            f"Answer the mails about the {topic} with 'works for me', and block Monday 10:00.",
        ),
        Batch((call("search_emails", {"query": topic}, json.dumps({"ids": ids[:2]})),)),
        Batch(
            tuple(
                call(
                    "get_email",
                    {"id": key},
                    json.dumps({"id": key, "from": f"p{n}@example.com", "subject": topic}),
                    key=key,
                    needs=(key,),
                )
                for n, key in enumerate(ids[:2])
            )
        ),
    ]
    for n, key in enumerate(ids[:2]):
        args = {"reply_to": key, "to": f"p{n}@example.com", "body": "Works for me."}
        beats.append(
            Batch((call("send_email", args, '{"sent": true}', writes=True, needs=(key,)),))
        )
    made = {"title": topic, "start": "2026-03-02T10:00"}
    beats += [
        Batch((call("create_event", made, json.dumps({"event_id": event}), writes=True),)),
        Batch(
            (
                call(
                    "add_reminder",
                    {"event_id": event, "minutes": 15},
                    '{"ok": true}',
                    writes=True,
                    key=event,
                    needs=(event,),
                ),
            )
        ),
        Say("assistant", f"Both mails are answered, and {topic} is on Monday at 10:00 ({event})."),
    ]
    return beats


def research(chance: random.Random) -> list[Beat]:
    """Search, open pages, one of them gone, and answer with sources: reads only."""
    call = Caller(chance)
    what = chance.choice(("the height of K2", "the year of the first tram", "the boiling point"))
    pages = [f"https://example.org/{chance.randrange(100, 999)}" for _ in range(3)]
    beats: list[Beat] = [
        Say("user", f"What is {what}? Two sources, please."),
        Batch((call("web_search", {"q": what}, "\n".join(pages)),)),
        Batch((call("open_page", {"url": pages[0]}, f"{what}: see table. Value 42."),)),
    ]
    if chance.random() < 0.6:  # noqa: PLR2004
        beats.append(Batch((call("open_page", {"url": pages[1]}, "HTTP 404 Not Found", ok=False),)))
    beats += [
        Batch((call("web_search", {"q": f"{what} reference"}, f"{pages[2]}\n{pages[0]}"),)),
        Batch((call("open_page", {"url": pages[2]}, "Reference page. Value 42."),)),
        Say("assistant", f"It is 42, by {pages[0]} and {pages[2]}."),
    ]
    return beats


def exporting(chance: random.Random) -> list[Beat]:
    """Start a job, poll it with waits between, and fetch what it made."""
    call = Caller(chance)
    job, file = f"job-{chance.randrange(100, 999)}", f"s3://out/{chance.randrange(100, 999)}.csv"
    beats: list[Beat] = [
        Say("system", "You run data jobs for analysts."),
        Say("user", "Export the sales of March, and tell me how many rows there are."),
        Batch(
            (
                call(
                    "start_export",
                    {"dataset": "sales", "month": "2026-03"},
                    json.dumps({"job_id": job, "state": "queued"}),
                    writes=True,
                ),
            )
        ),
    ]
    for state in ("queued", "running 40%", "running 90%")[chance.randrange(3) :]:
        status = {"job_id": job, "state": state}
        beats.append(Batch((call("get_job_status", {"job_id": job}, json.dumps(status), key=job),)))
        if chance.random() < 0.5:  # noqa: PLR2004
            beats.append(Batch((call("sleep", {"seconds": 10}, "ok"),)))
    done = json.dumps({"job_id": job, "state": "done", "file": file})
    beats += [
        Batch((call("get_job_status", {"job_id": job}, done, key=job),)),
        Batch((call("count_rows", {"file": file}, "18234", needs=(file,)),)),
        Say("assistant", f"The export {job} is done: 18,234 rows in {file}."),
    ]
    return beats


def pairing(chance: random.Random) -> list[Beat]:
    """Let two agents change one document, each of which reads it first."""
    call = Caller(chance)
    doc = f"DOC-{chance.randrange(100, 999)}"
    first = "Draft of the plan."
    beats: list[Beat] = [
        Say("system", "A writer and an editor work on one document, one after the other."),
        Say("user", f"Have {doc} written out and edited, please."),
    ]
    for actor, text in (("writer", "The plan, written out."), ("editor", "The plan, edited.")):
        shown = json.dumps({"doc_id": doc, "text": first})
        done = json.dumps({"doc_id": doc, "saved": True})
        beats += [
            Batch((call("get_document", {"doc_id": doc}, shown, key=doc),), actor=actor),
            Batch(
                (
                    call(
                        "update_document",
                        {"doc_id": doc, "text": text},
                        done,
                        writes=True,
                        key=doc,
                    ),
                ),
                actor=actor,
            ),
            Say("assistant", f"I am done with {doc}.", actor),
        ]
        first = text
    return beats


WORKS: tuple[Callable[[random.Random], list[Beat]], ...] = (
    coding,
    mailing,
    research,
    exporting,
    pairing,
)
