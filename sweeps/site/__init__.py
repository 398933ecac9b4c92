"""The documentation site, built of README files and of references made of the code."""
