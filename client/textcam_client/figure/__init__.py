"""Figures of results, and their numbers in words."""

from textcam_client.figure.figure import draw_figure

__all__ = ["draw_figure"]
