"""What the verbs in tools' names do to the world: tables, as data.

Keeps: a word stands in one row; those that mostly are nouns in tools' names are told apart
from those that can be nothing but verbs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from undercroft.model.case import Access


class Verbs(NamedTuple):
    """Verbs that mean the same to us.

    Attributes:
        access: What a tool does whose name has one of them.
        kind: `get` reads one thing, `list` looks for things, `change` writes to what is there,
            `create` adds something, `compute` and `speak` touch nothing.
        words: In lower case, as they stand in a name.
    """

    access: Access
    kind: str
    words: frozenset[str]


def _row(access: Access, kind: str, words: str) -> Verbs:
    return Verbs(access, kind, frozenset(words.split()))


VERBS: tuple[Verbs, ...] = (
    _row(
        Access.READ,
        "get",
        "get read fetch retrieve load show view describe inspect check lookup look download "
        "peek verify cat head tail stat status ping preview track watch monitor count has is "
        "whoami screenshot navigate goto visit browse scroll export recall detect "
        "examine observe measure probe diagnose consult peruse locate identify obtain extract "
        "scrape crawl display access determine survey discover inquire enquire",
    ),
    _row(
        Access.READ,
        "list",
        "list search find query scan grep glob filter select ls dir poll enumerate",
    ),
    _row(
        Access.WRITE,
        "change",
        "update set delete cancel modify change edit remove patch put replace rename move "
        "exchange return refund transfer withdraw deposit pay charge capture void close reopen "
        "resolve archive unarchive restore revert undo rollback enable disable activate "
        "deactivate approve reject assign unassign reassign grant revoke lock unlock mark flag "
        "merge apply upsert write save overwrite clear reset reschedule terminate suspend resume "
        "upgrade downgrade redeem publish unpublish adjust increase decrease increment decrement "
        "erase drop truncate destroy purge rm mv extend renew fulfill confirm "
        "accept decline complete finalize swap ship block unblock freeze unfreeze toggle rebook "
        "resize restart reboot stop scale deploy undeploy split star unstar pin unpin unmark "
        "untag tag label link unlink detach checkin checkout sync migrate install uninstall "
        "configure correct fix amend postpone shift hold release settle waive kick "
        "ban unban mute unmute rotate expire invalidate untrack unsubscribe deregister drain "
        "pause unpause raise lower ack acknowledge silence unsilence snooze promote demote retire "
        "reactivate reinstate reverse revise rewrite redact override reroute redirect relocate "
        "reallocate allocate deallocate rebalance recategorize grade score credit wire "
        "reclassify reconcile "
        "reconfigure redeploy refill regenerate reissue relabel reorganize repair replenish "
        "reprice reprioritize prioritize restock restructure retag retract retry rerun skip "
        "wipe evict cordon uncordon quarantine isolate provision "
        "deprovision bind unbind mount unmount disconnect pair unpair park unpark arm disarm "
        "brighten calibrate irrigate initialize hide unhide favorite unfavorite unfollow dislike "
        "upvote downvote expel admit discharge prescribe administer triage authorize deauthorize "
        "allow deny permit forbid whitelist blacklist allowlist denylist impose enforce "
        "dismiss exclude debit reimburse compensate forgive garnish liquidate notarize "
        "countersign certify nominate onboard offboard furlough dequeue unload unregister "
        "unschedule unshare unenroll undelete uncheck unset vacate shred seal unseal "
        "disassociate dissociate disburse escheat remit repay substitute supersede annotate "
        "anonymize amortize discontinue deprecate hibernate failover throttle shutdown",
    ),
    _row(
        Access.WRITE,
        "create",
        "create add book send post insert append register enroll place purchase buy "
        "sell reserve schedule issue submit upload import email notify message reply "
        "comment log record invite subscribe order mkdir attach "
        "dispatch new signup donate share forward remind escalate start launch trigger topup "
        "enqueue "
        "queue fork clone copy duplicate "
        "compose resend preorder lodge pledge spawn broadcast announce "
        "file vote bid tip requisition recruit hire retweet react rent "
        "lease apportion",
    ),
    _row(
        Access.NEITHER,
        "compute",
        "calculate compute think plan format parse reason reflect convert translate summarize "
        "summarise classify compare estimate validate evaluate sleep wait sort tokenize decide "
        "analyze analyse brainstorm sum multiply divide subtract",
    ),
    _row(
        Access.NEITHER,
        "speak",
        "respond answer finish done handoff handover delegate say ask clarify",
    ),
)

# Two words that mean another thing together than alone.
PHRASES: Mapping[tuple[str, str], tuple[Access, str]] = {
    ("look", "up"): (Access.READ, "get"),
    ("check", "in"): (Access.WRITE, "change"),
    ("check", "out"): (Access.WRITE, "change"),
    ("sign", "up"): (Access.WRITE, "create"),
    ("set", "up"): (Access.WRITE, "create"),
    ("roll", "back"): (Access.WRITE, "change"),
    ("turn", "on"): (Access.WRITE, "change"),
    ("turn", "off"): (Access.WRITE, "change"),
    ("opt", "in"): (Access.WRITE, "change"),
    ("opt", "out"): (Access.WRITE, "change"),
    ("hand", "off"): (Access.NEITHER, "speak"),
    ("hand", "over"): (Access.NEITHER, "speak"),
    ("final", "answer"): (Access.NEITHER, "speak"),
    ("submit", "answer"): (Access.NEITHER, "speak"),
    ("send", "response"): (Access.NEITHER, "speak"),
    ("report", "progress"): (Access.NEITHER, "speak"),
    ("make", "payment"): (Access.WRITE, "change"),
    ("make", "reservation"): (Access.WRITE, "create"),
    ("make", "booking"): (Access.WRITE, "create"),
    ("request", "refund"): (Access.WRITE, "change"),
    ("request", "return"): (Access.WRITE, "change"),
    ("open", "ticket"): (Access.WRITE, "create"),
    ("open", "issue"): (Access.WRITE, "create"),
    ("open", "account"): (Access.WRITE, "create"),
    ("open", "file"): (Access.READ, "get"),
    ("open", "url"): (Access.READ, "get"),
    ("open", "page"): (Access.READ, "get"),
    ("generate", "invoice"): (Access.WRITE, "create"),
    ("dry", "run"): (Access.NEITHER, "compute"),
}
# Verbs that are nouns as well: before one of `STATES` they are what is looked at.
NOUNS = frozenset(
    [
        "order",
        "refund",
        "return",
        "book",
        "exchange",
        "transfer",
        "log",
        "record",
        "schedule",
        "message",
        "email",
        "charge",
        "purchase",
        "deposit",
        "issue",
        "post",
        "comment",
        "report",
        "return",
        "payment",
        "place",
        "file",
        "grade",
        "score",
        "credit",
        "wire",
        "vote",
        "bid",
        "tip",
        "rent",
        "lease",
        "queue",
        "clone",
        "request",
        "share",
        "ship",
    ]
)
# And these, which mostly are verbs.
ALSO_NOUNS = frozenset(
    (
        *("track", "list", "search", "view", "check", "count", "stat", "preview", "watch"),
        *("monitor", "filter", "query", "format", "plan", "sort", "release", "lock", "tag"),
        *("label", "pin", "star", "split", "link", "scale", "stop", "start", "new", "look"),
        *("load", "copy", "swap", "shift", "hold", "reset", "block", "flag", "mark", "merge"),
        *("patch", "visit", "plan", "park", "mount", "access", "trace"),
        *("display", "survey", "measure", "probe", "repair", "permit", "override", "pause"),
        *("seal", "triage", "retry", "launch", "trigger", "sync"),
        *("answer", "ask", "poll", "head", "tail", "upgrade", "downgrade", "install", "escalate"),
    )
)
STATES = frozenset(
    [
        "status",
        "state",
        "details",
        "detail",
        "info",
        "information",
        "history",
        "balance",
        "list",
        "count",
        "summary",
        "profile",
        "availability",
        "price",
        "prices",
        "options",
        "limits",
        "metadata",
        "overview",
        "policy",
        "quote",
    ]
)
# Of these, what a tool may be named after as well: `renew_policy`.
THINGS = frozenset({"policy", "quote", "profile"})
# Verbs whose object may be a state: `update_status`. With others it is looked at: `deploy_status`.
ON_STATES = frozenset(
    (
        *(
            "update",
            "set",
            "change",
            "modify",
            "edit",
            "clear",
            "reset",
            "delete",
            "remove",
            "patch",
        ),
        *("put", "create", "add", "insert", "append", "send", "save", "write", "push", "toggle"),
        *("mark", "restore", "archive", "purge", "erase", "adjust", "correct", "fix", "amend"),
        *("overwrite", "upsert", "replace", "confirm", "assign", "apply", "log", "record", "post"),
        *("publish", "broadcast", "announce", "share", "upload", "submit", "new", "notify"),
    )
)
# To whom a conversation is handed, or from whom an answer is asked: nothing is written.
PEOPLE = frozenset(
    ["human", "humans", "agent", "agents", "operator", "representative", "supervisor"]
)
