"""Context measured: what windows lose on recorded conversations, and what ours costs in time."""
