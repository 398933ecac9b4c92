"""Models: resolving their names, checking whether the engine can serve them, and loading them."""
