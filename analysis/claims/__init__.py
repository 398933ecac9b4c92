"""The paper's claims, fixed before the runs that decide them, and the verdicts on them."""
