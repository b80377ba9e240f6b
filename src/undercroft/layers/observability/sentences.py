"""Sentences: what a text says that was changed, in the words of assistants and of users.

Keeps: a sentence counts only where it says that something has happened. What is denied, offered,
asked, planned, conditional or reported does not, nor what an assistant did to its own words.
The words are English. Each pattern is bounded, so that no text takes longer than it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TEXT_CHARS = 8_000
_SENTENCE_CHARS = 500
_HINTS = ("been", "i've", "i ", "we've", "we ", "successful", "is now", "are now")

# By what they have in common in the names of tools and in states, words for changes that are done.
STEMS: dict[str, str] = {
    "activat": "activated", "add": "added", "adjust": "adjusted", "amend": "amended",
    "appl": "applied", "approv": "approved", "archiv": "archived", "assign": "assigned",
    "attach": "attached", "block": "blocked", "book": "booked", "cancel": "cancelled canceled",
    "chang": "changed", "charg": "charged", "clear": "cleared", "clos": "closed",
    "commit": "committed", "complet": "completed", "configur": "configured",
    "correct": "corrected", "creat": "created", "credit": "credited", "deactivat": "deactivated",
    "decreas": "decreased", "delet": "deleted", "deploy": "deployed", "disabl": "disabled",
    "downgrad": "downgraded", "email": "emailed", "enabl": "enabled", "enroll": "enrolled",
    "exchang": "exchanged", "extend": "extended", "fil": "filed", "finali": "finalized finalised",
    "fix": "fixed", "forward": "forwarded", "freez": "frozen", "froz": "froze", "grant": "granted",
    "increas": "increased", "initiat": "initiated", "install": "installed", "invit": "invited",
    "issu": "issued", "launch": "launched", "lift": "lifted", "lock": "locked", "lower": "lowered",
    "mad": "made", "mark": "marked", "merg": "merged", "migrat": "migrated", "modif": "modified",
    "mov": "moved", "notif": "notified", "open": "opened", "order": "ordered", "paid": "paid",
    "paus": "paused", "plac": "placed", "post": "posted", "process": "processed",
    "provision": "provisioned", "publish": "published", "purchas": "purchased", "push": "pushed",
    "rais": "raised", "reassign": "reassigned", "rebook": "rebooked", "reboot": "rebooted",
    "redeem": "redeemed", "refund": "refunded", "register": "registered", "relocat": "relocated",
    "remov": "removed", "renam": "renamed", "renew": "renewed", "replac": "replaced",
    "request": "requested", "reschedul": "rescheduled", "reserv": "reserved", "reset": "reset",
    "resiz": "resized", "resolv": "resolved", "restart": "restarted", "restor": "restored",
    "resum": "resumed", "return": "returned", "revert": "reverted", "revok": "revoked",
    "roll": "rolled", "rotat": "rotated", "sav": "saved", "scal": "scaled", "schedul": "scheduled",
    "sen": "sent", "shar": "shared", "start": "started", "stop": "stopped", "submit": "submitted",
    "subscrib": "subscribed", "suspend": "suspended", "swap": "swapped", "switch": "switched",
    "tag": "tagged", "terminat": "terminated", "transfer": "transferred", "unblock": "unblocked",
    "unfreez": "unfrozen", "unlock": "unlocked", "unsubscrib": "unsubscribed", "updat": "updated",
    "upgrad": "upgraded", "upload": "uploaded", "void": "voided", "waiv": "waived",
    "withdraw": "withdrawn", "writ": "written", "wrot": "wrote",
}  # fmt: skip
STEM_OF = {word: stem for stem, words in STEMS.items() for word in words.split()}
# Words that any change may be told with; the others name the one that they mean.
ANY = frozenset(
    {"appl", "chang", "complet", "finali", "initiat", "issu", "mad", "modif", "plac", "process"}
    | {"request", "resolv", "submit", "updat"}
)
# What an assistant also does to its own words, with no tool at all: "I've added a summary".
WORDY = frozenset(
    {"add", "appl", "chang", "commit", "creat", "initiat", "merg", "modif", "mov", "open", "order"}
    | {"adjust", "amend", "attach", "clear", "correct", "extend", "fix", "mark", "rais", "revert"}
    | {"roll", "rotat", "scal", "start", "stop", "shar", "tag", "lift", "lower", "complet", "mad"}
    | {"configur", "decreas", "increas", "install"}
    | {"finali", "request"}
    | {"plac", "post", "process", "remov", "renam", "replac", "resolv", "sav", "switch", "updat"}
    | {"swap", "writ", "wrot", "return", "reset", "clos", "fil", "assign", "forward"}
)
# What comes along with a change of another kind, and may be told later.
ALONG = frozenset({"charg", "credit", "email", "forward", "paid", "refund", "sen"})
AGAIN = re.compile(r"\b(?:already|recap|summar|so far|to confirm|both|all of)")
_CONTENT = WORDY - {"assign", "clos", "merg", "renam", "reset"}
# What no answer holds by itself, however it is put.
_KEPT = re.compile(
    r"\b(?:reminder|booking|appointment|reservation|subscription|meeting|ticket)s?\b"
)
_NEAR_CHARS = 30
# What stands in somebody's books, and not in an answer.
THINGS = re.compile(
    r"\b(?:accounts?|address(?:es)?|appointments?|bags?|bookings?|calendar|cards?|cases?|claims?"
    r"|contacts?|customers?|deals?|deliver(?:y|ies)|emails?|events?|exchanges?|flights?|invoices?"
    r"|issues?|branch(?:es)?|files?|tasks?|loans?|documents?|instances?|items?|leads?|meetings?|membership|orders?|passengers?|passwords?|payments?|phone|plan"
    r"|polic(?:y|ies)|profiles?|records?|refunds?|reminders?|reservations?|returns?|seats?"
    r"|shipments?|status|subscriptions?|tickets?|transfers?|users?)\b"
)
_WORDS = "|".join(sorted(STEM_OF, key=lambda word: (-len(word), word)))
_HOW = r"(?:(?:now|also|just|already|all|both|successfully|automatically|officially|fully) ){0,3}"
_CLAIM = re.compile(
    rf"\b(?:(?:i|we)(?:'ve| have)? {_HOW}(?P<mine>{_WORDS})"
    rf"|(?:has|have) (?:all |both )?(?:now |just |already |successfully )?been {_HOW}"
    rf"(?P<been>{_WORDS})"
    rf"|(?:is|are) (?:now|all) {_HOW}(?P<now>{_WORDS})"
    rf"|successfully (?P<well>{_WORDS})"
    rf"|(?P<ended>{_WORDS}) successfully)\b"
)
_WAS = re.compile(rf"\b(?:was|were) (?:successfully )?(?P<was>{_WORDS})\b(?! (?:on|at|by) )")
_NOW = re.compile(r"\b(?:is|are|has|have|starts?|ends?|may|goes)\b.{0,120}\bnow\b")
# Before a claim, wherever in the sentence: what makes a plan, a condition or a report of it.
UNREAL = re.compile(
    r"\b(?:if|once|when|whenever|whether|unless|until|before|after|as soon as|because|since|while"
    r"|would|could|should|shall|may|might|must|let me|let's|going to|about to|to be|to have|want"
    r"|see|sees|understand|know|mention(?:ed)?|notice[ds]?|shows?|showing|shown|indicates?|says|said"
    r"|states|stated|according|appears?|seems?|looks?|sorry|apologi[sz]e|assume|assuming|expect(?:ed)?"
    r"|suppose|example|policy|previously|earlier|originally|yesterday|last|ago|prior|how|which|that"
    r" (?:is|are|was|were)|in case|ensure|make sure|verify|check)\b"
)
# In the claim's own clause: that it is not so, or not yet.
DENIED = re.compile(
    r"\b(?:not|never|no|none|neither|nor|cannot|unable|unfortunately|fail(?:ed|s|ure)?|without"
    r"|instead of|will|can|please|only|nothing|nobody|hardly|partially)\b|n't\b"
)
# After it: on what it hangs, and to whom a conversation went.
_DEPENDS = re.compile(
    r"\A[^,;.]{0,60}\b(?:once|when|if|until|unless|as soon as|after you|before(?! ?(?:[.!]|\Z)))\b"
    r"|\A you\b|\A (?:you |this |your (?:call|chat|case|request) )?to (?:a|an|our|the) \w{0,20} ?"
    r"(?:human|agent|team|specialist|representative|supervisor|department|colleague)"
)
_CLAUSE = re.compile(
    r"[,;:()\u2013\u2014]| but | however | although | so that | and (?=i |we |the |your )"
)
SPLIT = re.compile(r"(?<=[.!?])\s+|\n+")
_MARKUP = re.compile(r"[*_`~]{1,3}")
ID = re.compile(r"[#\w][\w#@./:-]{3,60}")
OWN = re.compile(r"\b(?:your|their|his|her|the|all|both|\d{1,6})\b|#\d")
# Of what a claim says so, and what an answer holds by itself.
THEIRS = re.compile(r"\b(?:your|their|his|her|its|the) (?:new |old )?([a-z]{3,20})\b")
OF_TEXT = re.compile(
    r"\b(?:below|above|here|list|summary|table|draft|answer|reply|response|text|report|essay|letter"
    r"|code|function|script|example|sentence|paragraph|section|bullet|wording|version|note)s?\b"
)
_USER_SAYS = re.compile(
    rf"\b(?:was|were|been|got|already|is|are|has|have|had|i|they|you) (?:\w{{1,20}} ){{0,2}}"
    rf"(?P<word>{_WORDS})\b"
)
# What a text says that does not pass over a failure, and what it ends with in any case.
_OWNS_UP = re.compile(
    r"n't\b|\b(?:could|did|can|is|was|are|were|has|have|do|does|will) ?not\b|\b(?:unable|failed"
    r"|fails?|failures?|failing|\w{0,40}errors?|unfortunately|sorry|apologi\w{1,5}|however|but|reject\w{0,3}"
    r"|declin\w{1,3}|denied|refus\w{1,3}|instead|problems?|issue with|an issue|trouble"
    r"|insufficient|unavailable|invalid|blocked|restricted|locked|not)\b|\?"
)
# Without a word of success it may be about something else altogether.
_ELSE = re.compile(
    r"\b(?:no|never|again|already|only|must|should|needs?|needed|requires?|required|because|since"
    r"|although|while|limit\w{0,3}|exceed\w{0,3}|allowed|eligible|policy|pending"
    r"|transfer\w{0,4} you|human|agent|colleague|escalat\w{1,3}|wait|moment|going to"
    r"|let me|i'll|i will|we'll|we will"
    r"|if|whether|which|please|confirm|choose|prefer|provide|options?|alternativ\w{1,3}|here)\b"
)
_SUCCESS = re.compile(
    r"\bsuccess|\bdone\b|\ball set\b|\bcomplete|\bfixed\b|\b(?:has|have|is|are) (?:now|been)\b"
    r"|\b(?:i|we)(?:'ve| have)\b|\bnow\b"
)
_CLOSES = re.compile(
    r"anything else|further (?:assist|question|help)|feel free|have a (?:great|nice|good|wonderful)"
    r"|let me know|(?:any|more|other) questions|happy to help|thank you|reach out|you're welcome"
    r"|enjoy|safe travels"
    # What was looked up is told beside it.
    r"|\b(?:retrieved|authenticated|verified|located|identified|looked up|found|checked)\b",
    re.IGNORECASE,
)
_GLOSS_CHARS_MIN = 12
_TOKEN = re.compile(r"[\w@./:-]{2,40}")
_COMMON = frozenset(
    {"all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can"}
    | {"do", "for", "from", "had", "has", "have", "he", "her", "his", "if", "in", "into", "is"}
    | {"it", "its", "just", "may", "me", "my", "new", "no", "not", "now", "of", "off", "old", "on"}
    | {"onto", "or", "our", "out", "please", "pm", "she", "so", "that", "the", "their", "then"}
    | {"they", "this", "to", "up", "was", "we", "were", "will", "with", "would", "yes", "you"}
    | {"your"}
)
_WONDERS = re.compile(
    r"\b(?:know|wonder\w{0,3}|check|whether|where|when|what|why|who|status|find out|see if"
    r"|tell me)\b"
)
_USER_WANTS = re.compile(
    r"\b(?:want|like|please|(?:can|could) (?:you|i|we)|may i|need|would|get|be)\b|\?"
)


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence that says that something was changed.

    Attributes:
        stems: Of the verbs of its claims.
        all_stems: Of every word in it that may be one.
        own: Whether the assistant says that it did it, and not that it was done.
        clause: The part of the sentence that holds the last of its claims.
    """

    sentence: str
    stems: frozenset[str]
    all_stems: frozenset[str]
    own: bool
    clause: str = ""


def claimed(text: str) -> Iterator[Said]:
    """Return the sentences of a text that say that something was changed."""
    plain = _MARKUP.sub("", text[:_TEXT_CHARS].replace("\u2019", "'"))
    lower = plain.lower()
    if not any(hint in lower for hint in _HINTS):
        return
    for sentence in SPLIT.split(plain):
        low = " ".join(sentence[:_SENTENCE_CHARS].lower().split())
        if low.endswith("?"):
            continue
        claims = [found for found in _CLAIM.finditer(low) if _is_meant(low, found)]
        stems = {STEM_OF[w] for found in claims for w in found.groupdict().values() if w}
        if stems:
            words = {STEM_OF[word] for word in re.findall(r"[a-z]+", low) if word in STEM_OF}
            own = any(found["mine"] for found in claims)
            clause = _clause(low, claims[-1])
            yield Said(sentence.strip(), frozenset(stems), frozenset(words), own, clause)


def _clause(low: str, found: re.Match[str]) -> str:
    """Return the part of a sentence that a claim stands in."""
    begin = max((cut.end() for cut in _CLAUSE.finditer(low, 0, found.start())), default=0)
    end = _CLAUSE.search(low, found.end())
    return low[begin : len(low) if end is None else end.start()]


def _is_meant(low: str, found: re.Match[str]) -> bool:
    """Say whether a sentence says that something has happened, where it looks like it."""
    before = low[: found.start()]
    if UNREAL.search(before) or _DEPENDS.search(low[found.end() :]):
        return False
    begin = max((cut.end() for cut in _CLAUSE.finditer(before)), default=0)
    return DENIED.search(low[begin : found.end()]) is None


def glosses_over(text: str, *, told: bool = True) -> bool:
    """Say whether a text passes over a failure: all is well in it, and nothing is asked.

    Args:
        text: What the user was told.
        told: Whether it must be about what failed, also where it has no word of success.
    """
    plain = _MARKUP.sub("", text[:_TEXT_CHARS].replace("\u2019", "'"))
    parts = [part for part in SPLIT.split(plain) if not _CLOSES.search(part)]
    rest = " ".join(parts).lower()
    if len(rest) < _GLOSS_CHARS_MIN or _OWNS_UP.search(rest):
        return False
    return _SUCCESS.search(rest) is not None or (told and _ELSE.search(rest) is None)


def is_wish(low: str) -> bool:
    """Say whether a user's sentence asks for something to be done."""
    if _WONDERS.search(low):
        return False
    return not low.rstrip().endswith("?") or _USER_WANTS.search(low.rstrip(" ?")) is not None


def says(sentence: str, said: Said) -> bool:
    """Say whether a user's sentence says that something was so already."""
    low = sentence.lower()
    return not _USER_WANTS.search(low) and any(
        STEM_OF[found["word"]] in said.stems for found in _USER_SAYS.finditer(low)
    )


def is_of_books(said: Said) -> bool:
    """Say whether a claim is of something in somebody's books, and not of the answer itself."""
    if said.stems - WORDY:
        return True
    low = said.sentence.lower()
    if said.own and said.stems & _CONTENT:
        return kept_by(said) != ""
    return THINGS.search(low) is not None and OWN.search(low) is not None


def kept_by(said: Said) -> str:
    """Return what a claim names right after its verb that stands in books only; or nothing."""
    for word in re.finditer(r"[a-z]+", said.clause):
        if STEM_OF.get(word.group()) in said.stems:
            near = said.clause[word.end() : word.end() + _NEAR_CHARS]
            found = _KEPT.search(near)
            if found is not None:
                return found.group().removesuffix("s")
    return ""


def plain_claims(text: str) -> Iterator[tuple[str, str, frozenset[str], bool]]:
    """Return sentences that say how things stand: as they are, in lower case, verbs, "now".

    The verbs are those of "was moved to"; the last is whether it is said to be so now.
    """
    for sentence in SPLIT.split(_MARKUP.sub("", text[:_TEXT_CHARS])):
        low = " ".join(sentence[:_SENTENCE_CHARS].lower().split())
        if low.endswith("?") or UNREAL.search(low) or DENIED.search(low):
            continue
        was = frozenset(STEM_OF[found["was"]] for found in _WAS.finditer(low))
        now = _NOW.search(low) is not None
        if was or now:
            yield sentence, low, was, now


def telling(text: str) -> set[str]:
    """Return the words of a text that are not in every text."""
    return {word.strip(".:/-") for word in _TOKEN.findall(text)} - _COMMON
