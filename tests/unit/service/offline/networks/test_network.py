"""What all loaders share: names of classes, preprocessing, seeds."""

import pytest
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.checkpoints import Checkpoint
from textcam_service.offline.networks.network import (
    StatedPreprocessing,
    as_interpolation,
    class_names_of,
    seeded,
    standard_preprocessing,
    unique_names,
    words,
)


def test_equal_names_are_told_apart_by_index():
    assert unique_names(["a", "b", "a"]) == ("a (0)", "b", "a (2)")
    assert len(set(unique_names(["a", "a", "a (0)"]))) == 3


def test_classes_are_named_by_the_checkpoint_by_imagenet_or_by_number():
    assert class_names_of(Checkpoint("w", {}, ("a", "b", "b")), 3) == ("a", "b (1)", "b (2)")
    assert class_names_of(Checkpoint("w", {}), 2) == ("class 0", "class 1")
    assert len(set(class_names_of(None, 1000))) == 1000
    with pytest.raises(ExportRefused, match="names 2 classes and has 3"):
        class_names_of(Checkpoint("w", {}, ("a", "b")), 3)


def test_the_standard_preprocessing_resizes_to_8_sevenths_of_the_longer_side():
    size = standard_preprocessing(192, 224)
    assert (size.resize, size.height, size.width) == (256, 192, 224)


def test_an_input_of_no_pixels_is_refused():
    with pytest.raises(ValueError, match="not a positive whole number of pixels"):
        standard_preprocessing(0)


def test_interpolations_have_the_services_names():
    assert as_interpolation("random") == "bilinear"
    with pytest.raises(ExportRefused, match="interpolation 'nearest' is not served"):
        as_interpolation("nearest")


def test_seeded_weights_are_the_same_and_other_draws_go_on():
    torch.manual_seed(5)
    wanted = torch.randn(2)
    torch.manual_seed(5)
    drawn = []
    for _ in range(2):
        with seeded():
            drawn.append(torch.randn(3))
    assert torch.equal(*drawn)
    assert torch.equal(torch.randn(2), wanted)


USUAL = standard_preprocessing(224)


def test_what_is_stated_takes_the_place_of_the_usual():
    told = StatedPreprocessing(mean=(0.5,) * 3, crop_mode="squash").over(USUAL)
    assert (told.mean, told.crop_mode) == ((0.5,) * 3, "squash")
    assert (told.std, told.resize, told.height) == (USUAL.std, 256, 224)


@pytest.mark.parametrize(
    ("stated", "resize"),
    [
        ({"size": (448, 448)}, 512),
        ({"size": (112, 56)}, 128),
        ({"size": (64, 64), "resize": 70}, 70),
    ],
)
def test_another_size_is_resized_to_in_the_same_proportion(stated, resize):
    assert StatedPreprocessing(**stated).over(USUAL).resize == resize


def test_a_note_says_what_was_replaced_and_by_what():
    stated = StatedPreprocessing(mean=(0.5,) * 3, resize=256)
    (note,) = stated.notes(USUAL, "given")
    assert note == "given: mean 0.5,0.5,0.5 (not 0.485,0.456,0.406)"
    assert StatedPreprocessing(resize=256).notes(USUAL, "given") == ()
    assert stated.named() == ("resize", "mean")


def test_numbers_are_written_without_more_digits_than_tell():
    assert words((1 / 255, 0.5, 1.0)) == "0.00392157,0.5,1"
    assert words("center") == "center"
