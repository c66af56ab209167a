"""Folders of the data in the package."""

from pathlib import Path

_DATA = Path(__file__).parents[1] / "data"
PHOTOS = _DATA / "photos"
"""The default concept bank, its vocabulary and its table of attributes."""
SCENES = _DATA / "scenes"
"""Weights of the rendered world's networks."""
DEVICE = _DATA / "device"
"""Small graphs that run on the device beside the network."""
