"""Dense turns to compare others with: taken once per prompt, and kept in files."""
