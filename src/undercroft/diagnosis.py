"""The doctor's composition root: inputs in, from files or a journal; diagnoses out."""
