"""The language of sweep files, and their conversion into trials."""
