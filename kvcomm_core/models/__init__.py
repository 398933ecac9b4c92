"""Models: what a name means, whether it can be served, and what is loaded."""
