"""The reuse that a log's prompts allow, computed from the log alone, as numbers and as a picture."""
