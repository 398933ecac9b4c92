"""The KVCOMM engine: torch and transformers only; no Ray, no files of results, no workloads."""
