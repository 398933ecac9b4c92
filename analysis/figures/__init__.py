"""Figures of a sweep: one function each, from records to data and picture. No figure uses pyplot."""
