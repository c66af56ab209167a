"""What all loaders share: names of classes, preprocessing, seeds."""

import pytest
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.network import (
    LoadedModule,
    StatedPreprocessing,
    as_interpolation,
    choose_names,
    has_names,
    imagenet_names,
    seeded,
    standard_preprocessing,
    unique_names,
    words,
)
from torch import nn


def test_equal_names_are_told_apart_by_index():
    assert unique_names(["a", "b", "a"]) == ("a (0)", "b", "a (2)")
    assert len(set(unique_names(["a", "a", "a (0)"]))) == 3


def loaded(count, *names):
    return LoadedModule(nn.Identity(), standard_preprocessing(), count, names)


def test_classes_have_the_names_given_else_their_own_else_numbers():
    own = loaded(3, "a", "b", "b")
    assert choose_names("m", own) == ("a", "b (1)", "b (2)")
    assert choose_names("m", own, ("x", "y", "z")) == ("x", "y", "z")
    assert choose_names("m", loaded(2)) == ("class 0", "class 1")
    thousand = choose_names("m", loaded(1000))
    assert thousand[7] == "class 7"
    assert not has_names(thousand)
    assert has_names(own.class_names)


def test_names_of_another_number_of_classes_are_refused_with_their_source():
    with pytest.raises(ExportRefused, match=r"3 classes, but 2 class names come .* by --classes"):
        choose_names("m", loaded(3, "a", "b"))
    with pytest.raises(ExportRefused, match="m has 3 classes, but 1 class names were given"):
        choose_names("m", loaded(3, "a", "b"), ("x",))


def test_imagenets_names_are_distinct_and_in_its_order():
    """Synsets 0, 134 and 999 of ILSVRC 2012: n01440764, n02012849, n15075141."""
    names = imagenet_names()
    assert len(set(names)) == 1000
    assert (names[0], names[134], names[999]) == ("tench", "crane bird", "toilet tissue")


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
