"""Shares of maps inside objects' masks."""

import io

import numpy as np
import pytest
from PIL import Image
from textcam_client.audit.run.pictures.object_masks import MaskUnusable, inside_shares, read_mask
from textcam_client.testing import serve_in_memory


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


LEFT = np.zeros((40, 60), np.uint8)
LEFT[:, :30] = 1


def palette():
    image = Image.fromarray(LEFT, "P")
    image.putpalette([0, 0, 0] * 256)  # colours say nothing: the index does
    return image


FORMS = {
    "grey": Image.fromarray(LEFT),
    "one bit": Image.fromarray(LEFT > 0),
    "palette": palette(),
    "colour": Image.fromarray(np.dstack([LEFT * 0, LEFT * 9, LEFT * 0])),
    "transparency": Image.fromarray(np.dstack([LEFT * 0 + 200] * 3 + [LEFT * 255])),
    "sixteen bits": Image.fromarray(LEFT.astype(np.uint16) * 700),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_object_is_where_the_mask_is_not_zero(form):
    assert np.array_equal(read_mask(encoded(FORMS[form]), (40, 60)), LEFT)


def test_a_larger_mask_is_averaged():
    mask = read_mask(encoded(Image.fromarray(LEFT).resize((1200, 800), 0)), (400, 600))
    assert mask.shape == (149, 224)
    assert mask.mean() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"no image", "cannot be decoded"),
        (encoded(FORMS["grey"]), "60 x 40 pixels, and the image 40 x 60"),
    ],
)
def test_a_mask_that_does_not_belong_to_the_image_is_told(content, fault):
    with pytest.raises(MaskUnusable, match=fault):
        read_mask(content, (60, 40))


def test_the_shares_of_a_mask_and_of_the_rest_add_up():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    with serve_in_memory() as server, server.client() as client:
        result = client.explain(pixels)
        declined = client.explain(pixels, heatmap="none")
    inside = inside_shares(result.explanation, LEFT.astype(np.float32))
    outside = inside_shares(result.explanation, 1 - LEFT.astype(np.float32))
    assert len(inside) == len(result.phrases) > 0
    np.testing.assert_allclose(np.add(inside, outside), 1)
    assert inside_shares(result.explanation, np.ones((40, 60), np.float32)) == [1] * len(inside)
    # By hand: the map at the image's size, its positive part left of the middle.
    heat = result.groups[0].heatmap((40, 60))
    assert inside[0] == pytest.approx(heat[:, :30].sum() / heat.sum())
    assert inside_shares(declined.explanation, LEFT.astype(np.float32)) == [None] * len(inside)
