"""The plan of a sweep: what is done, what is left, and how long it will take."""
