"""What an image is told to run, read off its Dockerfile."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template


@dataclass(frozen=True)
class Stage:
    """A FROM and the instructions after it, each on one line."""

    parent: str
    instructions: tuple[str, ...]


@dataclass(frozen=True)
class Image:
    """What a container of an image starts with.

    Attributes:
        environment: Of its ENV lines.
        entrypoint: Of ENTRYPOINT.
        command: Of CMD.
        copies: (source in the build's context, target in the image) of COPY, but from a stage.
    """

    environment: Mapping[str, str] = field(hash=False)
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    copies: tuple[tuple[str, str], ...]


def stages(path: Path) -> dict[str, Stage]:
    """A Dockerfile's stages by name, in their order; a stage without one is "".

    Raises:
        AssertionError: Two stages have one name.
    """
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = re.findall(
        r"^FROM (\S+)(?: AS (\S+))?\n(.*?)(?=^FROM|\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert len({name for _, name, _ in found}) == len(found), path
    return {
        name: Stage(parent, tuple(line for line in body.splitlines() if line.strip()))
        for parent, name, body in found
    }


def image(path: Path, target: str = "") -> Image:
    """The image of a stage, with what it has of the stages that it starts from."""
    made = stages(path)
    lines: list[str] = []
    while target in made:
        lines = [*made[target].instructions, *lines]
        target = made[target].parent
    # The base image's own: a PATH.
    environment = {"PATH": os.defpath}
    forms: dict[str, tuple[str, ...]] = {"ENTRYPOINT": (), "CMD": ()}
    copies = []
    for line in lines:
        instruction, rest = line.split(maxsplit=1)
        if instruction == "ENV":
            pairs = [pair.split("=", 1) for pair in shlex.split(rest)]
            known = dict(environment)
            environment |= {name: Template(value).safe_substitute(known) for name, value in pairs}
        elif instruction in forms:
            forms[instruction] = tuple(json.loads(rest))
        elif instruction == "COPY" and not rest.startswith("--from"):
            source, goal = rest.split()
            copies.append((source, goal))
    return Image(environment, forms["ENTRYPOINT"], forms["CMD"], tuple(copies))
