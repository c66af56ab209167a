"""Values of options, refused with what is possible instead."""

import click
import pytest
from textcam_service.cli.shared import parameters


def refusal(check, given):
    with pytest.raises(click.BadParameter) as error:
        check(None, None, given)
    return error.value.message


def test_a_number_is_in_range_and_never_nan():
    kind = parameters.NumberRange("probability", min=0, max=1)
    assert kind.convert("0.5", None, None) == 0.5
    for given in ("1.5", "x"):
        with pytest.raises(click.BadParameter):
            kind.convert(given, None, None)
    with pytest.raises(click.BadParameter, match="'nan' is not a probability"):
        kind.convert("nan", None, None)


def test_a_folder_among_images_is_refused_with_the_way_to_its_images(tmp_path):
    file = tmp_path / "cat.png"
    file.touch()
    assert parameters.image_files(None, None, (file,)) == (file,)
    message = refusal(parameters.image_files, (file, tmp_path))
    assert message == f"{tmp_path} is a folder; for the images in it: {tmp_path}/*"


def test_kinds_are_repeated_or_listed():
    assert parameters.phrase_kinds(None, None, ("part, Colour", "thing")) == (
        "part",
        "colour",
        "thing",
    )
    assert refusal(parameters.phrase_kinds, ("parts",)).startswith("'parts' is none of thing, part")


def test_an_unknown_method_is_refused_with_similar_ones():
    assert parameters.known_method(None, None, "grad_cam") == "grad_cam"
    assert parameters.known_method(None, None, None) is None
    message = refusal(parameters.known_method, "gradcam")
    assert message.startswith("there is no CAM method 'gradcam'; near it: grad_cam")
    assert "there are: cam, grad_cam" in refusal(parameters.known_method, "zzz")


def test_a_size_is_one_number_or_height_and_width():
    assert parameters.height_and_width(None, None, "224") == (224, 224)
    assert parameters.height_and_width(None, None, "192,256") == (192, 256)
    assert parameters.height_and_width(None, None, None) is None
    for given in ("0", "1,2,3", "-4", "a", ""):
        assert "is neither a size" in refusal(parameters.height_and_width, given)
