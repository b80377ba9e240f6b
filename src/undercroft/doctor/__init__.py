"""The doctor: one bad trace in, from any system; which layer was missing out."""
