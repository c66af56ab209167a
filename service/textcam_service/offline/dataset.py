"""Image folders, vocabularies and labels as files."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

from PIL import Image

from textcam_service.core.types import PHRASE_KINDS
from textcam_service.errors import InvalidImage, InvalidRequest, ProbingSetError, VocabularyError
from textcam_service.imaging.decoding import ImageLimits, decode
from textcam_service.imaging.formats import SUFFIXES, TAKEN

_KIND = re.compile(r"#\s*kind:\s*(\S+)")
_NEARLY_KIND = re.compile(r"#+\s*kinds?\s*:", re.IGNORECASE)
LIMITS = ImageLimits(max_bytes=200 * 2**20, max_pixels=200_000_000)
"""Limits of an image in offline work."""


class SkippedImage(NamedTuple):
    """An image that could not be read.

    Attributes:
        path: The path as display_path returns it.
        reason: Printable text.
    """

    path: str
    reason: str


class ImageFolder(Sequence[Path]):
    """Image files in a fixed order: a sequence of paths, decoded on demand."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)

    @staticmethod
    def find(folders: Sequence[Path]) -> ImageFolder:
        """List the images under folders, each once: folder by folder, sorted by path.

        Raises:
            ProbingSetError: A folder does not exist, or no image is found.
        """
        found: list[Path] = []
        for folder in folders:
            if not folder.is_dir():
                raise ProbingSetError(f"the image folder {folder} is not there")
            found += sorted(
                path
                for path in folder.rglob("*")
                if path.suffix.lower() in SUFFIXES and path.is_file()
            )
        if not found:
            raise ProbingSetError(
                f"no {TAKEN} file under {', '.join(str(folder) for folder in folders)}"
            )
        once: dict[Path, Path] = {}
        for path in found:
            once.setdefault(path.resolve(), path)
        return ImageFolder(once.values())

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> ImageFolder: ...

    def __getitem__(self, index: int | slice) -> Path | ImageFolder:
        """Return one path, or some of them as a folder."""
        found = self._paths[index]
        return found if isinstance(found, Path) else ImageFolder(found)

    def read_images(
        self, on_skip: Callable[[SkippedImage], object] = lambda _: None
    ) -> Iterator[tuple[Path, Image.Image]]:
        """Decode the images one after the other, as (path, upright RGB).

        Args:
            on_skip: Called with each image that cannot be read; it is left out.
        """
        for path in self._paths:
            try:
                image = read_image(path)
            except (OSError, InvalidImage, InvalidRequest) as error:
                on_skip(SkippedImage(display_path(path), escape(str(error))))
                continue
            yield path, image

    def stamps(self) -> list[tuple[str, int, int]]:
        """Return the values that identify each file's content: path, bytes, time in ns.

        Raises:
            OSError: A file no longer exists.
        """
        stats = [(path, path.stat()) for path in self._paths]
        return [(display_path(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def read_image(path: Path) -> Image.Image:
    """Decode one image file within the limits of offline work: upright RGB.

    Raises:
        OSError: The file cannot be read.
        InvalidImage: It is damaged, or of another format.
        InvalidRequest: It is larger than 200 MiB or 200 megapixels.
    """
    return decode(path.read_bytes(), LIMITS).pixels


def escape(text: str) -> str:
    r"""Return a command or a file's name as text that UTF-8 can hold: bad\xff.png."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def display_path(path: Path) -> str:
    """Return a path as printable text that no other path has."""
    return escape(str(path).replace("\\", r"\\"))


def read_phrases(path: Path) -> tuple[str, ...]:
    """Read the phrases of a vocabulary file; see read_vocabulary."""
    return read_vocabulary(path)[0]


def read_vocabulary(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read a vocabulary file: UTF-8, a phrase per line; '#' begins a comment line.

    A comment "# kind: KIND" sets the kind of the phrases after it.

    Returns:
        V phrases, and V kinds of PHRASE_KINDS, "" where none is given.

    Raises:
        VocabularyError: The file is unreadable, not UTF-8 or empty, lists a phrase twice, or has an
            unknown kind.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except OSError as error:
        raise VocabularyError(f"the vocabulary {path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise VocabularyError(
            f"the vocabulary {path} is not UTF-8 text ({error}); save it as UTF-8"
        ) from error
    phrases: dict[str, str] = {}
    seen: set[str] = set()
    kind = ""
    for line in lines:
        if stated_kind := _KIND.fullmatch(line):
            kind = stated_kind[1]
            if kind not in PHRASE_KINDS:
                raise VocabularyError(
                    f"the vocabulary {path} has the kind '{kind}'; there are "
                    f"{', '.join(PHRASE_KINDS)}"
                )
        elif _NEARLY_KIND.match(line):
            raise VocabularyError(
                f"the vocabulary {path} has the line '{line[:60]}'; a kind is set by "
                f"'# kind: KIND', with one of {', '.join(PHRASE_KINDS)}"
            )
        elif line and not line.startswith("#"):
            if line.casefold() in seen:
                raise VocabularyError(f"the vocabulary {path} holds '{line}' twice; remove one")
            seen.add(line.casefold())
            phrases[line] = kind
    if not phrases:
        raise VocabularyError(f"the vocabulary {path} holds no phrase")
    return tuple(phrases), tuple(phrases.values())


def read_labels(path: Path, folders: Sequence[Path], class_names: Sequence[str]) -> dict[Path, int]:
    """Read the true classes of probing images: CSV with the columns file and label.

    Args:
        path: UTF-8; `file` is relative to one of the folders, `label` a class's name or index.
        folders: Folders of the probing set.
        class_names: C names.

    Raises:
        ProbingSetError: It cannot be read, a column is missing, or a label is no class.
    """
    known = {name.strip().casefold(): index for index, name in enumerate(class_names)}
    labels: dict[Path, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [(reader.line_num, row.get("file"), row.get("label")) for row in reader]
            columns = reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ProbingSetError(f"the labels {path} cannot be read as CSV: {error}") from error
    if missing := [name for name in ("file", "label") if name not in columns]:
        raise ProbingSetError(
            f"the labels {path} have no column '{missing[0]}'; they need 'file' and 'label', and "
            f"have {', '.join(columns) or 'none'}"
        )
    for line, name, label in rows:
        if not name or not label or not label.strip():
            raise ProbingSetError(f"{path}, line {line}: a file and its label are needed")
        text = label.strip()
        index = known.get(text.casefold(), int(text) if text.isdecimal() else -1)
        if not 0 <= index < len(class_names):
            raise ProbingSetError(
                f"{path}, line {line}: '{text}' is none of the backbone's {len(class_names)} "
                f"classes: {', '.join(class_names[:3])} ..."
            )
        labels |= {folder / name: index for folder in folders if (folder / name).is_file()}
    if not labels:
        raise ProbingSetError(
            f"none of the files that {path} names is under {', '.join(map(str, folders))}"
        )
    return labels
