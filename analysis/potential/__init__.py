"""What a log's prompts could reuse, computed from the log alone (``accounting.py``), as numbers and as a picture."""
