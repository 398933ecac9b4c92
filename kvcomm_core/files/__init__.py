"""Files: writing them whole, opening only regular ones, and reading strict JSON."""
