"""From an agent's answer to a grade: numbers, letters, LaTeX expressions."""
