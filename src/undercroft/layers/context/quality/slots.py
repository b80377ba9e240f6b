"""Slots: what assistants ask people for: how it is called, and how a value of it looks.

Keeps: no shape takes longer than in proportion to the text; each begins at the edge of a word.
Leaves to `questions.py`: how to tell a question for a slot, and an answer to it.

The names are English; whoever works in another language or trade gives a table of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from undercroft.errors import SettingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One thing that people are asked for.

    Attributes:
        name: Of the slot.
        asked: How it is called in a question, in lower case; words parted by one blank.
        keys: Under which keys a tool's JSON has it, in lower case.
        shape: Pattern of a value of it.
        sign: A character that each value has and few texts have, so that a value is told by its
            shape alone, whatever stands around it; empty where there is none.
        after: Pattern of what comes before a value of it, where people do not name the slot.
        many: Whether one person may have several: then it is asked for with reason as long as
            a value of it is still to be seen.
    """

    name: str
    asked: tuple[str, ...]
    keys: tuple[str, ...] = ()
    shape: str
    sign: str = ""
    after: str = ""
    many: bool = False

    def __post_init__(self) -> None:
        if not self.asked or not all(name.strip() for name in self.asked):
            raise SettingError("asked", self.asked, "names of the slot, at least one")
        try:
            re.compile(self.shape)
        except re.error:
            raise SettingError("shape", self.shape, "a regular expression") from None


_DIGIT = r"(?=[\w-]{0,30}\d)"
_CAPITAL = r"[^\W\d_a-z\u00df-\u00ff]"

SLOTS = (
    Slot(
        name="email",
        asked=("email", "e-mail", "email address", "e-mail address"),
        keys=("email", "email_address"),
        shape=r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}",
        sign="@",
    ),
    Slot(
        name="phone",
        asked=("phone", "phone number", "telephone number", "mobile number", "contact number"),
        keys=("phone", "phone_number"),
        shape=r"\+?\d[\d ().-]{6,18}\d",
    ),
    Slot(
        name="zip",
        asked=("zip", "zip code", "zipcode", "postal code", "postcode", "post code"),
        keys=("zip", "zip_code", "postal_code", "postcode"),
        shape=r"\b\d{5}(?:-\d{4})?\b|\b[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}\b",
    ),
    Slot(
        name="user id",
        asked=("user id", "userid", "user name", "username", "customer id", "account id"),
        keys=("user_id", "customer_id", "account_id"),
        shape=r"\b(?=\w{0,40}[\d_])(?=\w{0,40}[a-z])[A-Za-z]\w{3,40}\b",
    ),
    Slot(
        name="order id",
        asked=("order id", "order number"),
        shape=rf"#?\b{_DIGIT}[A-Za-z0-9][\w-]{{2,30}}\b",
        many=True,
    ),
    Slot(
        name="reservation id",
        asked=(
            "reservation id",
            "reservation number",
            "reservation code",
            "booking id",
            "booking number",
            "booking reference",
            "confirmation number",
            "confirmation code",
        ),
        shape=rf"#?\b{_DIGIT}[A-Z0-9]{{5,12}}\b|\b[A-Z]{{6}}\b",
        many=True,
    ),
    Slot(
        name="payment method",
        asked=("payment method", "payment method id", "card number"),
        shape=r"\b[a-z_]{4,20}_\d{4,10}\b|(?i:\b(?:(?:credit|gift|debit) card|paypal|visa)\b)",
        many=True,
    ),
    Slot(
        name="date of birth",
        asked=("date of birth", "birth date", "birthdate", "birthday", "dob"),
        keys=("dob", "date_of_birth", "birth_date", "birthdate"),
        shape=(
            r"\b\d{4}-\d{1,2}-\d{1,2}\b|\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b"
            r"|\b[A-Z][a-z]{2,8}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}\b"
        ),
    ),
    Slot(
        name="address",
        asked=(
            "address",
            "home address",
            "street address",
            "mailing address",
            "billing address",
            "shipping address",
            "delivery address",
        ),
        keys=("address1", "street_address"),
        shape=rf"\b\d{{1,6}} {_CAPITAL}\w{{1,30}} {_CAPITAL}\w{{1,30}}\b",
    ),
    Slot(
        name="name",
        asked=("name", "full name", "first name", "last name", "surname", "first and last name"),
        keys=("first_name", "full_name", "last_name"),
        shape=rf"\b{_CAPITAL}[\w'\u2019-]{{1,30}} {_CAPITAL}[\w'\u2019-]{{1,30}}\b",
        # "name is", "name's", "name:", "I'm", "I am", "this is".
        after=(
            r"[NnITt](?<!\w.)(?:(?<=[Nn])ame(?: is|'s|:)|(?<=I)(?:['\u2019]m| am)|(?<=[Tt])his is) "
        ),
    ),
)
