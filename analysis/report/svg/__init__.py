"""Figures as small SVG that take the colours of the page."""
