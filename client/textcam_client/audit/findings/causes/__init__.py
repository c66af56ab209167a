"""Comparisons, places and errors that point at a concept."""
