"""Grading of an agent's answer: numbers, letters, LaTeX expressions."""
