"""One page about a results folder: what it shows, in words, tables and figures, and what it does not."""
