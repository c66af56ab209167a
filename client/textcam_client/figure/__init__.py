"""One picture per explained photograph, for people: where, and what, and how much."""

from textcam_client.figure.figure import draw_figure

__all__ = ["draw_figure"]
