"""A sweep file into trials."""
