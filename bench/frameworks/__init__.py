"""Five programs in each of three frameworks, without Undercroft and with it.

The frameworks are real and in their own environments; the model is scripted, behind real HTTP;
what happened is told by the bank and by a ledger that the tools write themselves. `programs.py`
says what is done, a module a framework how it is done there, `world.py` what is acted on.
"""
