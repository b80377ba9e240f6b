"""Journals: in memory and in SQLite; one behaviour, one suite for both."""
