"""A photo for the commands that take images."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo(tmp_path):
    """A red square on grey, as a file."""
    pixels = np.full((48, 64, 3), 120, np.uint8)
    pixels[12:36, 20:44] = 200, 30, 30
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path
