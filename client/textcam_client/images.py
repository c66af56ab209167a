"""Images to explain: reading, sending, and opening for drawing."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from textcam_client._arrays import UInt8Array
from textcam_client._image_files.colours import to_srgb
from textcam_client._image_files.formats import open_unserved
from textcam_client._image_files.orientation import DAMAGE, upright_step
from textcam_client._image_files.png import without_long_metadata
from textcam_client.errors import ImageError, UnreadableImage, UnsupportedImage

ImageInput: TypeAlias = (
    "str | os.PathLike[str] | os.PathLike[bytes] | bytes | bytearray | memoryview | Image.Image "
    "| NDArray[np.uint8]"
)

_IMAGE_DIMENSIONS = 3  # height, width, colour


@dataclass(frozen=True, eq=False)
class ImageSource:
    """An image as the caller gave it; a file is read when its bytes are needed.

    Attributes:
        given: A path, the bytes of an image file, a PIL image, or uint8 RGB (h, w, 3).
        digest: Digest that the file's bytes must have; None: any bytes are accepted.
    """

    given: ImageInput
    digest: bytes | None = None

    def kept(self, payload: bytes | UInt8Array) -> ImageSource:
        """Return the source that a result keeps: the path of a file, else the bytes sent.

        Callers may draw the next frame into the same array, or write the next image to the same
        file. The kept source gives the explained image or an error, never another image.

        Args:
            payload: The value of payload().
        """
        if isinstance(self.given, (str, os.PathLike)) and isinstance(payload, bytes):
            return ImageSource(os.fsdecode(self.given), _digest(payload))
        return ImageSource(payload)

    def payload(self) -> bytes | UInt8Array:
        """Return what to send: a file's bytes, or a copy of the pixels, (h, w, 3) uint8 RGB.

        A file of a format that servers do not take, such as TIFF, is opened and sent as pixels.

        Raises:
            UnreadableImage: The file cannot be read, or its bytes have changed.
            UnsupportedImage: The type or shape is not supported.
        """
        given = self.given
        try:
            if isinstance(given, (str, os.PathLike)):
                return _served(self._checked(_read(given)))
            if isinstance(given, (bytes, bytearray, memoryview)):
                return _served(_copied(given))
            if isinstance(given, Image.Image):
                return np.asarray(_loaded(given))
            return _checked_pixels(given)
        except ImageError:
            raise
        except Exception as error:
            # The caller's own types may raise anything; only this image fails, not the run.
            raise UnreadableImage(
                f"cannot read the image ({type(given).__name__}): {_words(error)}"
            ) from error

    def picture(self) -> Image.Image:
        """Open the image for drawing: sRGB, with EXIF rotation and ICC profile applied.

        Raises:
            UnreadableImage: As in payload(), or Pillow cannot decode the file.
            UnsupportedImage: The type or shape is not supported.
        """
        if isinstance(self.given, Image.Image):
            return _loaded(self.given).copy()  # may be drawn on
        payload = self.payload()
        if isinstance(payload, bytes):
            return _loaded(io.BytesIO(without_long_metadata(payload)))
        return Image.fromarray(payload)

    def _checked(self, content: bytes) -> bytes:
        if self.digest not in (None, _digest(content)):
            raise UnreadableImage(f"the file {self.given!r} has changed since it was explained")
        return content


def require_several(images: object) -> None:
    """Raise TypeError if `images` is a single image, since most of them can be iterated too."""
    one = isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)) or (
        isinstance(images, np.ndarray) and images.ndim <= _IMAGE_DIMENSIONS
    )
    if one:
        raise TypeError(
            f"explain_many takes an iterable of images, not one image ({type(images).__name__}): "
            "put it in a list, or call explain; for a folder pass Path(folder).iterdir()"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to upright sRGB; see upright_rgb."""
    return upright_rgb(image)[0]


def upright_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """Convert any mode to sRGB, as the server does: upright by EXIF, transparency over white.

    Returns:
        The image, and a note on its ICC profile, as Provenance.decoder has it; "" for none.
    """
    image.load()  # a PNG's EXIF may come after its pixels
    turn, (pixels, note) = upright_step(image), to_srgb(image)
    return (pixels if turn is None else pixels.transpose(turn)), note


def _read(path: str | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
    name = os.fsdecode(path)
    try:
        return Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"cannot read the image {name!r}: {error}") from error


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _copied(given: bytes | bytearray | memoryview) -> bytes:
    try:
        return bytes(given)
    except ValueError as error:
        raise UnsupportedImage(
            "the image is a memoryview that was released: pass its bytes, or release it after the "
            "call"
        ) from error


def _served(content: bytes) -> bytes | UInt8Array:
    """Return a file as it is, or its pixels if servers do not take its format."""
    image = open_unserved(content)
    if image is None:
        return content
    count = getattr(image, "n_frames", 1)
    if count > 1:
        raise UnsupportedImage(
            f"the {image.format} file has {count} pictures: open it by Pillow, seek() the one to "
            "be explained, and pass that"
        )
    return np.asarray(_loaded(image))


def _loaded(image: Image.Image | io.BytesIO) -> Image.Image:
    try:
        opened = image if isinstance(image, Image.Image) else Image.open(image)
        _check_mode(opened)
        return to_rgb(opened)
    except UnsupportedImage:
        raise
    except DAMAGE as error:
        if isinstance(error, AssertionError) or "closed" in str(error) or _is_closed(image):
            raise UnreadableImage(
                "the PIL image was closed before it was read: load() it while it is open, or pass "
                "its path"
            ) from error
        raise UnreadableImage(f"cannot decode the image: {_words(error)}") from error


def _is_closed(image: Image.Image | io.BytesIO) -> bool:
    """Return True for an image with a file that Pillow closed before it read the pixels."""
    # Pillow before 12.1 tries to read it anyway, and fails on a None.
    return isinstance(image, ImageFile) and image.fp is None


def _check_mode(image: Image.Image) -> None:
    # A 16-bit PNG may have mode "I" too; in other images the value of white is unknown.
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise UnsupportedImage(
            "a PIL image must have uint8 pixels, or 16-bit grey of mode 'I;16', "
            f"not of mode {image.mode!r}"
        )


def _words(error: Exception) -> str:
    """Return an error's message, or its type's name if the message is empty."""
    return str(error) or type(error).__name__


def _checked_pixels(given: Any) -> UInt8Array:
    if not isinstance(given, np.ndarray):
        raise UnsupportedImage(
            f"an image is a path, the bytes of an image file, a PIL image or a uint8 array "
            f"(h, w, 3), not {type(given).__name__}"
        )
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3 or not given.size:
        raise UnsupportedImage(
            f"an array must have RGB pixels: uint8 of shape (h, w, 3), "
            f"not {given.dtype} of shape {given.shape}"
        )
    return np.array(given, order="C")
