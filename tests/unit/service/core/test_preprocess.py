"""Geometry of preprocessing, by hand."""

from textcam_service.core.preprocess import center_crop
from textcam_service.core.types import Preprocessing


def test_centre_crop_by_hand():
    preprocessing = Preprocessing(256, 224, 224, "bilinear", (0, 0, 0), (1, 1, 1))
    crop = center_crop(512, 1024, preprocessing)
    assert (crop.top, crop.left, crop.height, crop.width) == (32.0, 288.0, 448.0, 448.0)
