"""Execution of a trial: questions through agents (``conversation``), timings and probes, whole or in shards."""
