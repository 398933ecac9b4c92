"""``python -m sweeps.cli``, for a machine where the ``kvcomm`` command is not installed."""

from sweeps.cli import main

main()
