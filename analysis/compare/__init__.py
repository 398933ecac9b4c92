"""Compare two results folders, or the arms of one."""
