"""Context: what the model sees is assembled by rule, and every prompt extends the last."""
