"""Two results folders, or the arms of one, beside each other."""
