"""One trial, run anywhere: its definition (spec), its records, and the code that runs it."""
