"""Words that are no identifiers although they look like some: at the head of a sentence, mostly.

Keeps: data only. A word that is missing here costs a few tokens of the ledger; one too many costs
a name.
"""

from __future__ import annotations

_MONTHS = """
january february march april may june july august september october november december
jan feb mar apr jun jul aug sep sept oct nov dec
"""

_WEEKDAYS = """
monday tuesday wednesday thursday friday saturday sunday today tomorrow yesterday tonight
"""

_CURRENCIES = """
usd eur gbp jpy chf cad aud inr cny dollar dollars euro euros pound pounds yen rupees francs
cents bucks
"""

# Between two words of one name.
_LINKS = "of de del della di da dos van von der den la le el al bin ibn und y the &"

# Never a name, wherever they stand.
_FUNCTION = """
i the this that these those it its he she we you they me my your our their his her him us them
and or but nor so yet for if then than as at by in on to up with from into about after before over
under again once while until since because although though unless whether either neither both what
which who whom whose when where why how am is are was were be been being do does did done have has
had having can could might must shall should would not no yes yeah yep nope ok okay i'm i'd i'll
i've it's that's there's here's what's let's you're we're they're can't cannot don't won't didn't
doesn't isn't wasn't couldn't shouldn't wouldn't haven't hasn't e.g i.e a.m p.m etc vs
"""

# No name where they open a sentence.
_OPENING = """
a an of will sure please thanks thank thx hi hello hey dear regards sincerely best cheers good
great nice fine perfect awesome excellent wonderful fantastic lovely cool alright right wrong
correct exactly absolutely definitely certainly actually basically honestly unfortunately
hopefully also additionally furthermore moreover however therefore thus hence instead otherwise
besides anyway well oh um uh hmm ah ahem wow oops sorry apologies just only even still already now
later soon never always often sometimes maybe perhaps probably possibly let lets there here some
any all each every another other others such same one two three four five six seven eight nine ten
first second third last next previous many much more most less least few several none nothing
anything everything something someone anyone everyone nobody understood understand got gotcha
noted agreed confirmed confirm proceed continue go going get give take make made see look looks
looking find help need needs want wants like likes know think believe guess hope wish prefer tell
say said ask asked try trying use using book cancel change check update return exchange add remove
send keep put set order item option flight reservation user issue question answer information info
details number id name email address zip code phone date time day week month year tv am pm ps re
fyi asap faq aka btw imo lol ha haha wait hold stop during regarding concerning considering given
assuming between among through without within against per via based speaking yours mine ours does
okay
"""

# At the head of `zip:19122`.
_LABELS = """
email e-mail mail zip zipcode postcode id name phone tel mobile order number no nr ref reference
code user date dob time address account card item booking reservation flight ticket invoice amount
total price sku
"""

# A number after one of these belongs to the address.
_UNITS = "suite apt apartment unit floor room no building flat ste box"


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


MONTHS = _set(_MONTHS)
WEEKDAYS = _set(_WEEKDAYS)
CURRENCIES = _set(_CURRENCIES)
LINKS = _set(_LINKS)
FUNCTION = _set(_FUNCTION)
OPENING = FUNCTION | _set(_OPENING)
LABELS = _set(_LABELS)
UNITS = _set(_UNITS)
# Small words that may be part of a value.
JOINING = MONTHS | WEEKDAYS | CURRENCIES | LINKS | {"am", "pm"}
