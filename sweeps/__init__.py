"""Many trials: sweep files, the Ray controller, and the ``kvcomm`` command."""
