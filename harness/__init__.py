"""One trial, run anywhere: what it is (spec), what it yields (records), and the code that runs it."""
