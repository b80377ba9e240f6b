"""Frameworks that bring the loop: each adapter translates, and holds no policy.

An adapter needs its framework, which `undercroft[NAME]` installs in a version that was tested.
"""
