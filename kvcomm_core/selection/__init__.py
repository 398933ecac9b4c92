"""The choice of tokens that are recomputed although their KV was reused."""
