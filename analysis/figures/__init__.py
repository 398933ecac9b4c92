"""Figures of a sweep: one function each, from results to data and picture. No figure uses pyplot."""
