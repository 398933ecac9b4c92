"""Figures of a sweep: one function each, from records to data and picture. Nothing here draws through pyplot."""
