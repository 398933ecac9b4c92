"""One page about a results folder: its findings in words, tables and figures, and its gaps."""
