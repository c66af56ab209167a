"""The probing set and the vocabulary as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from textcam_service.errors import InvalidImage, InvalidRequest, ProbingSetError, VocabularyError
from textcam_service.imaging import SUFFIXES, ImageLimits, decode

_LIMITS = ImageLimits(max_bytes=200 * 2**20, max_pixels=200_000_000)


def find_images(folders: Sequence[Path]) -> list[Path]:
    """List the images under some folders: folders as given, each sorted by path, each image once.

    Raises:
        ProbingSetError: A folder is not there, or nothing is found.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise ProbingSetError(f"the image folder {folder} is not there")
        found += sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
    if not found:
        raise ProbingSetError(
            f"no JPEG, PNG or WebP file under {', '.join(str(folder) for folder in folders)}"
        )
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(path.resolve(), path)
    return list(once.values())


def printable(text: str) -> str:
    r"""Text of the system's, as a command or a file's name, as UTF-8 can hold it: bad\xff.png."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def stated(path: Path) -> str:
    """A path as printable text that no other path has."""
    return printable(str(path).replace("\\", r"\\"))


def readable(paths: Sequence[Path]) -> Iterator[tuple[Path, Image.Image]]:
    """Those images that can be read, one after the other."""
    for path in paths:
        try:
            image = decode(path.read_bytes(), _LIMITS).pixels
        except (OSError, InvalidImage, InvalidRequest):
            continue
        yield path, image


def read_phrases(path: Path) -> tuple[str, ...]:
    """Read a vocabulary file: UTF-8, a phrase per line; '#' begins a comment line.

    Raises:
        VocabularyError: Unreadable, not UTF-8, empty, or a phrase stands twice.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except OSError as error:
        raise VocabularyError(f"the vocabulary {path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise VocabularyError(
            f"the vocabulary {path} is no UTF-8 text ({error}); save it as UTF-8"
        ) from error
    phrases = [line for line in lines if line and not line.startswith("#")]
    if not phrases:
        raise VocabularyError(f"the vocabulary {path} holds no phrase")
    seen: set[str] = set()
    for phrase in phrases:
        if phrase.casefold() in seen:
            raise VocabularyError(f"the vocabulary {path} holds '{phrase}' twice; remove one")
        seen.add(phrase.casefold())
    return tuple(phrases)
