"""Importers: one file a format, each only a translation to `model.case.Case`."""
