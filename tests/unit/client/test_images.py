"""What users give as an image, and what is sent and drawn."""

from __future__ import annotations

import gc
import io
import os
import struct
import weakref

import numpy as np
import pytest
from client_samples import make_pixels
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from textcam_client import (
    ExplainResult,
    ImageError,
    PictureUnavailable,
    UnreadableImage,
    UnsupportedImage,
    draw_figure,
)
from textcam_client.images import ImageSource, to_rgb


def test_paths_and_bytes_are_sent_as_the_file_they_are(png, png_path):
    for given in (png_path, str(png_path), png, bytearray(png), memoryview(png)):
        assert ImageSource(given).payload() == png


def test_arrays_and_pillow_images_are_sent_as_pixels(pixels):
    np.testing.assert_array_equal(ImageSource(pixels).payload(), pixels)
    np.testing.assert_array_equal(ImageSource(Image.fromarray(pixels)).payload(), pixels)


def test_arrays_need_not_be_contiguous(pixels):
    payload = ImageSource(pixels[::-1, ::2]).payload()
    assert payload.tobytes() == pixels[::-1, ::2].tobytes()


def test_exif_rotation_is_applied_to_pillow_images_and_to_pictures(pixels):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    upright = np.rot90(pixels, -1)
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    np.testing.assert_array_equal(ImageSource(opened).payload(), upright)
    np.testing.assert_array_equal(ImageSource(buffer.getvalue()).picture(), upright)


@pytest.mark.parametrize(
    ("entry", "turns"),
    [
        (struct.pack(">HHI4sHHIHH", 0x0100, 2, 4, b"abc\0", 0x0112, 3, 1, 6, 0), -1),
        (struct.pack(">HHI4sHHIHH", 0x0100, 2, 4, b"abc\0", 0x0112, 3, 1, 9, 0), 0),
        (struct.pack(">HHI4sHHI4s", 0x0100, 2, 4, b"abc\0", 0x0112, 2, 4, b"abc\0"), 0),
    ],
    ids=["width in letters", "no such orientation", "orientation in letters"],
)
def test_malformed_exif_is_read_as_the_server_reads_it(pixels, entry, turns):
    buffer = io.BytesIO()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + entry + bytes(4)
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    expected = np.rot90(pixels, turns)
    np.testing.assert_array_equal(ImageSource(buffer.getvalue()).picture(), expected)
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    np.testing.assert_array_equal(ImageSource(opened).payload(), expected)


def test_whatever_pillow_raises_of_a_file_is_an_image_error(client, png, monkeypatch):
    answer = client.explain(png)

    def fail(_):
        raise struct.error("unpack requires a buffer of 2 bytes")

    monkeypatch.setattr(PngImageFile, "load", fail)
    with pytest.raises(UnreadableImage, match="cannot decode the image: unpack"):
        ImageSource(png).picture()
    with pytest.raises(PictureUnavailable, match="unpack requires"):
        answer.overlay()


def test_a_pillow_image_that_is_given_is_not_drawn_on(client, pixels):
    given = Image.fromarray(pixels)
    draw_figure(client.explain(pixels), image=given, tile_width=20)
    np.testing.assert_array_equal(given, pixels)


def test_a_transparent_colour_lies_over_white(pixels):
    """As in the server; Pillow leaves the colour as it is and names it beside the pixels."""
    pixels[:10] = (1, 2, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", transparency=(1, 2, 3))
    expected = np.where((pixels == (1, 2, 3)).all(axis=2, keepdims=True), 255, pixels)
    np.testing.assert_array_equal(ImageSource(buffer.getvalue()).picture(), expected)
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    np.testing.assert_array_equal(ImageSource(opened).payload(), expected)


def test_sixteen_bits_are_scaled_not_clipped():
    grey = np.array([[0, 257, 25700, 65535]], np.uint16)
    assert np.asarray(to_rgb(Image.fromarray(grey)))[0, :, 0].tolist() == [0, 1, 100, 255]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pillow_images_of_no_known_range_are_refused_as_arrays_are(pixels, dtype):
    """Those of 0 to 1 and 0 to 255 would be explained as black."""
    image = Image.fromarray(pixels[..., 0].astype(dtype))
    for read in (ImageSource(image).payload, ImageSource(image).picture):
        with pytest.raises(UnsupportedImage, match=f"uint8 pixels, .* mode '{image.mode}'"):
            read()


def test_a_sixteen_bit_png_is_taken_whatever_mode_pillow_gives_it():
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 5), 25700, np.uint16)).save(buffer, "PNG")
    opened = Image.open(buffer)
    wide = opened.convert("I")
    wide.format = "PNG"  # as older Pillows open it
    for image in (opened, wide):
        assert (ImageSource(image).payload() == 100).all()


def test_transparency_lies_over_white():
    image = Image.fromarray(np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8))
    assert np.asarray(to_rgb(image)).tolist() == [[[255, 255, 255], [10, 20, 30]]]


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "1", "YCbCr"])
def test_other_modes_become_rgb_close_to_the_original(mode):
    plain = Image.fromarray(np.full((8, 8, 3), 255, np.uint8))
    assert np.asarray(to_rgb(plain.convert(mode))).min() >= 254


def test_a_missing_file_is_an_image_error_and_an_oserror(tmp_path):
    with pytest.raises(UnreadableImage, match=r"nowhere\.jpg") as caught:
        ImageSource(tmp_path / "nowhere.jpg").payload()
    assert isinstance(caught.value, (ImageError, OSError))
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "not NoneType"),
        (12, "not int"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
    ],
)
def test_what_is_no_image_is_refused_with_what_is_taken(given, words):
    with pytest.raises(UnsupportedImage, match=words):
        ImageSource(given).payload()


@pytest.mark.parametrize("damage", [b"", b"not an image", None])
def test_pictures_of_damaged_files_are_image_errors(damage, png):
    data = png[: len(png) // 2] if damage is None else damage
    with pytest.raises(UnreadableImage, match="cannot decode"):
        ImageSource(data).picture()


def test_paths_of_bytes_are_paths(png, png_path):
    entry = next(entry for entry in os.scandir(os.fsencode(png_path.parent)) if entry.is_file())
    assert isinstance(entry.path, bytes)
    assert ImageSource(entry).payload() == png
    png_path.unlink()
    with pytest.raises(UnreadableImage, match=r"photo\.png"):
        ImageSource(entry).payload()


def test_a_pillow_image_that_was_closed_is_unreadable_and_told_of(png, png_path):
    with Image.open(png_path) as never_loaded:
        pass
    in_memory = Image.open(io.BytesIO(png))
    in_memory.close()
    file = png_path.open("rb")
    on_closed_file = Image.open(file)
    file.close()
    for image in (never_loaded, in_memory, on_closed_file):
        with pytest.raises(UnreadableImage, match=r"was closed before it was read: load\(\) it"):
            ImageSource(image).payload()


def test_a_memoryview_that_was_released_is_refused():
    view = memoryview(b"x")
    view.release()
    with pytest.raises(UnsupportedImage, match="a memoryview that was released"):
        ImageSource(view).payload()


@pytest.mark.parametrize("kind", ["array", "pillow", "bytearray", "memoryview", "path"])
def test_an_answer_shows_the_image_that_was_explained_whatever_becomes_of_it(
    client, png, pixels, png_path, kind
):
    buffer = bytearray(png)
    given = {
        "array": pixels.copy(),
        "pillow": Image.fromarray(pixels),
        "bytearray": buffer,
        "memoryview": memoryview(buffer),
        "path": png_path,
    }[kind]
    answer = client.explain(given)
    other = Image.fromarray(make_pixels(seed=1))
    if kind == "array":
        given[:] = 0
    elif kind == "pillow":
        given.paste(other)
    elif kind == "path":
        other.save(png_path)
        with pytest.raises(PictureUnavailable, match=r"photo\.png' has changed"):
            draw_figure(answer)
        png_path.write_bytes(png)
    else:
        buffer[:] = bytes(len(buffer))
    np.testing.assert_array_equal(answer.picture(), pixels)


def test_frames_may_come_in_one_array_that_is_filled_again(client):
    frames = [make_pixels(seed=seed) for seed in range(6)]

    def refilled():
        buffer = np.empty_like(frames[0])
        for frame in frames:
            buffer[:] = frame
            yield buffer

    for answer, frame in zip(client.explain_many(refilled()), frames, strict=True):
        np.testing.assert_array_equal(answer.picture(), frame)


def test_errors_that_are_kept_do_not_keep_their_images(server, png):
    images = [Image.open(io.BytesIO(png[: len(png) // 2])) for _ in range(3)]
    alive = [weakref.ref(image) for image in images]
    with server.client() as client:
        errors = list(client.explain_many(iter(images), on_error="return"))
    images.clear()
    gc.collect()
    assert [image() for image in alive] == [None] * 3
    assert all(isinstance(error.__cause__, OSError) for error in errors)


def test_what_the_caller_was_handling_keeps_its_traceback(server):
    try:
        raise KeyError("the caller's own")
    except KeyError as handled:
        with server.client() as client:
            (error,) = client.explain_many(["nowhere.png"], on_error="return")
        assert handled.__traceback__ is not None
        assert isinstance(error.__cause__, FileNotFoundError)
        assert error.__cause__.__context__ is None


class Faulty:
    """A path that cannot say where it leads."""

    def __fspath__(self) -> str:
        raise LookupError("no such record")


def test_whatever_an_image_raises_is_an_image_error(server, png):
    with pytest.raises(UnreadableImage, match=r"\(Faulty\): no such record") as caught:
        ImageSource(Faulty()).payload()
    assert isinstance(caught.value.__cause__, LookupError)
    with server.client() as client:
        answers = list(client.explain_many([png, Faulty(), png], on_error="return"))
    assert [type(answer) for answer in answers] == [ExplainResult, UnreadableImage, ExplainResult]


def test_an_image_over_the_message_limit_is_refused_before_it_is_sent(server):
    with (
        server.client(max_message_bytes=1000) as client,
        pytest.raises(UnsupportedImage, match=r"10800 bytes, over .* 1000"),
    ):
        client.explain(make_pixels(60, 60))
    assert server.requests == []
