"""The status of a sweep while it runs and afterwards."""
