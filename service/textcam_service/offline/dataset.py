"""The probing set and the vocabulary as files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from textcam_service.core.types import PHRASE_KINDS
from textcam_service.errors import InvalidImage, InvalidRequest, ProbingSetError, VocabularyError
from textcam_service.imaging.decoding import SUFFIXES, ImageLimits, decode

_KIND = re.compile(r"#\s*kind:\s*(\S+)")
_NEARLY_KIND = re.compile(r"#+\s*kinds?\s*:", re.IGNORECASE)
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
    """Read the phrases of a vocabulary file; see read_vocabulary."""
    return read_vocabulary(path)[0]


def read_vocabulary(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read a vocabulary file: UTF-8, a phrase per line; '#' begins a comment line.

    A comment "# kind: KIND" says what the phrases after it name.

    Returns:
        V phrases, and V kinds of PHRASE_KINDS, "" where none is said.

    Raises:
        VocabularyError: Unreadable, not UTF-8, empty, a phrase stands twice, or a kind is unknown.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except OSError as error:
        raise VocabularyError(f"the vocabulary {path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise VocabularyError(
            f"the vocabulary {path} is no UTF-8 text ({error}); save it as UTF-8"
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
                f"the vocabulary {path} has the line '{line[:60]}'; a kind is said by "
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
        folders: Of the probing set.
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
