"""The doctor: one bad trace in, from any system; which layer was missing out.

In the order of work: `inputs`, `opening`, `documents` (over `growing`), `spool` and `source` read;
`guess` finds the format; `importers` translate, with `statuses` and `arguments` for what no format
says; `effects` (over `naming`, `access`, `touches`, `company` and what the user `told`) says what
calls did; the layers' own `symptoms.py` look; `deviation` and `verdict` judge, by what was
`measured`; `report` and `telling` are what faces say of it. `workers` do all
that in processes of their own.
"""
