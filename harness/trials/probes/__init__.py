"""Probes of keys and values: measurements inside ``run_trial`` that come to KVStatistics. One file each."""
