"""Identifiers: what users state, tools return and calls use, found and kept without a model."""
