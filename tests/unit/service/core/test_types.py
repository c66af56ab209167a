from dataclasses import replace

import pytest
from textcam_service.core.types import Preprocessing

USUAL = Preprocessing(256, 224, 224, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interpolation": "nearest"}, "interpolation 'nearest' is not one of bilinear, bicubic"),
        ({"crop_mode": "centre"}, "crop_mode 'centre' is not one of center, squash, border"),
        ({"resize": 0}, "resize 0 is not a positive whole number of pixels"),
        ({"height": 224.0}, r"height 224\.0 is not a positive whole number"),
        ({"mean": (0.5, 0.5)}, "is not three finite numbers"),
        ({"mean": (0.5, 0.5, float("nan"))}, "is not three finite numbers"),
        ({"std": (0.25, 0.0, 0.25)}, "is not three finite numbers above 0"),
    ],
)
def test_preprocessing_that_no_image_can_have_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(USUAL, **changes)


def test_the_usual_crop_mode_is_left_out_of_digests():
    assert "crop_mode" not in USUAL.identity()
    assert replace(USUAL, crop_mode="squash").identity()["crop_mode"] == "squash"
    assert USUAL.identity()["resize"] == 256
