"""Copies of results to share: one file per table, and a crate that says where they come from."""
