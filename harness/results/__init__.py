"""The results of a trial: its columns, and the files that keep them."""
