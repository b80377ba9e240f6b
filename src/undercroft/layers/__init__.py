"""The six layers. None imports another; the engine is where they meet.

Each answers the same questions in files of the same names: `policy` (what may a user
declare?), `state` (what follows from what happened?), `guard` (what does the engine ask
round a step?), `lint` (what is missing in a declaration?), `symptoms` (how does its absence
look in a trace?). A file is left out where its question has no answer yet.
"""
