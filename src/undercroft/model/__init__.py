"""Frozen values that all floors share: what is declared, what happens, what is remembered."""
