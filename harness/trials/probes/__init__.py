"""Probes of keys and values: measurements inside ``run_trial`` that yield KVStatistics. One file each."""
