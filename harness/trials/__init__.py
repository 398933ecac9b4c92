"""How a trial runs: questions through agents (``conversation``), timings and probes, whole or in shards."""
