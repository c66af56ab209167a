"""Scenes: a few coloured objects on a floor, under a light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

SHAPES = ("sphere", "cube", "cylinder", "cone")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "gray")
MATERIALS = ("rubber", "metal")
SIZES = ("small", "large")
FLOORS = ("plain", "striped", "checkered", "speckled")
# In the order in which English says them.
ATTRIBUTES = {"size": SIZES, "colour": COLOURS, "material": MATERIALS, "shape": SHAPES}

RADII = {"small": 0.5, "large": 0.95}
"""Half an object's width, floor units."""

_FIELD = (-2.25, 2.25), (-2.0, 3.2)  # where objects stand: x, y
_APART, _CLOSER = 1.0, 0.98  # of the sum of two radii, as the camera sees them; per failure
_TRIES = 40


@dataclass(frozen=True)
class SceneObject:
    """Object of a scene.

    Attributes:
        shape: One of SHAPES.
        colour: One of COLOURS.
        material: One of MATERIALS.
        size: One of SIZES.
        x: Position to the right, floor units.
        y: Position away from the camera, floor units.
        turn: Rotation about the vertical, radians.
    """

    shape: str
    colour: str
    material: str
    size: str
    x: float
    y: float
    turn: float = 0.0

    def __post_init__(self) -> None:
        for name, words in ATTRIBUTES.items():
            _require(name, getattr(self, name), words)

    @property
    def radius(self) -> float:
        """Half the object's width, floor units."""
        return RADII[self.size]

    @property
    def attributes(self) -> dict[str, str]:
        """Four words by name, in English order."""
        return {name: getattr(self, name) for name in ATTRIBUTES}

    @property
    def phrase(self) -> str:
        """All words: "large red metal cube"."""
        return " ".join(self.attributes.values())


@dataclass(frozen=True)
class Scene:
    """Objects on a floor.

    Attributes:
        objects: At least one.
        floor: One of FLOORS.
        light: Azimuth of the light, radians.
        seed: Seed of unnamed properties: the floor's tint and phase, the sensor's noise.
    """

    objects: tuple[SceneObject, ...]
    floor: str
    light: float
    seed: int

    def __post_init__(self) -> None:
        _require("floor", self.floor, FLOORS)

    @property
    def caption(self) -> str:
        """Describe the whole scene."""
        named = [f"a {item.phrase}" for item in self.objects]
        listed = named[0] if len(named) == 1 else ", ".join(named[:-1]) + " and " + named[-1]
        return f"{listed} on a {self.floor} floor"

    @property
    def phrases(self) -> frozenset[str]:
        """List every phrase that is true of the scene: of each object, and of the floor."""
        said = {phrase for item in self.objects for phrase in object_phrases(item.attributes)}
        return frozenset(said | {f"{self.floor} floor"})

    def replace_object(self, index: int, **changes: Any) -> Scene:
        """Return the same scene with one object changed."""
        items = list(self.objects)
        items[index] = replace(items[index], **changes)
        return replace(self, objects=tuple(items))

    def without_object(self, index: int) -> Scene:
        """Return the same scene less one object."""
        items = list(self.objects)
        del items[index]
        return replace(self, objects=tuple(items))

    def with_floor(self, floor: str) -> Scene:
        """Return the same scene on another floor."""
        return replace(self, floor=floor)


def object_phrases(attributes: dict[str, str]) -> list[str]:
    """List every phrase made of some of an object's words, in their order: "red", "red cube" ...

    Args:
        attributes: Words by the names of ATTRIBUTES, in any order; not all need be there.
    """
    words = [attributes[name] for name in ATTRIBUTES if name in attributes]
    chosen = product(*[(word, None) for word in words])
    return [" ".join(word for word in some if word) for some in chosen if any(some)]


def vocabulary() -> tuple[str, ...]:
    """List the phrases about scenes: one, two and three words of an object, and the floors."""
    found: dict[str, None] = {}
    for words in product(*ATTRIBUTES.values()):
        attributes = dict(zip(ATTRIBUTES, words, strict=True))
        for phrase in object_phrases(attributes):
            if len(phrase.split()) <= 3:
                found.setdefault(phrase)
    return (*found, *(f"{floor} floor" for floor in FLOORS))


def random_attributes(rng: np.random.Generator) -> dict[str, str]:
    """Draw four words, uniformly."""
    return {name: words[rng.integers(len(words))] for name, words in ATTRIBUTES.items()}


def random_scene(rng: np.random.Generator, count: int | None = None) -> Scene:
    """Draw a scene of random objects.

    Args:
        rng: Random generator of the whole scene.
        count: Number of objects, 1 to 5; None: 2 to 5, uniform.

    Raises:
        ValueError: The count is out of range; the floor has no room for many more.
    """
    if count is not None and not 1 <= count <= 5:
        raise ValueError(f"a scene has 1 to 5 objects, not {count}")
    number = int(rng.integers(2, 6)) if count is None else count
    return arrange(rng, [random_attributes(rng) for _ in range(number)])


def arrange(
    rng: np.random.Generator, items: Sequence[dict[str, str]], floor: str | None = None
) -> Scene:
    """Place objects so that all are in view and none hides much of another.

    Args:
        rng: Decides places, light, floor (if not given) and seed.
        items: The objects' attributes, at most 5.
        floor: One of FLOORS; None: uniform.
    """
    placed, apart = None, _APART
    while placed is None:
        placed = _places(rng, [RADII[item["size"]] for item in items], apart)
        apart *= _CLOSER
    objects = tuple(
        SceneObject(**item, x=x, y=y, turn=float(rng.uniform(0, np.pi / 2)))
        for item, (x, y) in zip(items, placed, strict=True)
    )
    drawn = FLOORS[rng.integers(len(FLOORS))]
    light, seed = float(rng.uniform(0, 2 * np.pi)), int(rng.integers(2**31))
    return Scene(objects, floor or drawn, light, seed)


def _places(
    rng: np.random.Generator, radii: Sequence[float], apart: float
) -> list[tuple[float, float]] | None:
    """Draw positions until all fit; None if they never do."""
    found: list[tuple[float, float]] = []
    for radius in radii:
        for x, y in zip(*(rng.uniform(*side, _TRIES).tolist() for side in _FIELD), strict=True):
            if all(
                _clear((x, y, radius), (*place, size), apart)
                for place, size in zip(found, radii, strict=False)
            ):
                found.append((x, y))
                break
        else:
            return None
    return found


def _clear(one: tuple[float, ...], two: tuple[float, ...], apart: float) -> bool:
    """Return True if two (x, y, radius) neither touch nor hide much of each other.

    The camera looks down by about 30 degrees: y is foreshortened, and a larger object's middle
    stands higher.
    """
    reach, across, away = one[2] + two[2], one[0] - two[0], one[1] - two[1]
    rise = 0.5 * away + 0.85 * (one[2] - two[2])
    touching = across**2 + away**2 < (1.2 * reach) ** 2
    return not touching and across**2 + rise**2 > (apart * reach) ** 2


def _require(name: str, word: str, words: Sequence[str]) -> None:
    if word not in words:
        raise ValueError(f"unknown {name} '{word}'; there are {', '.join(words)}")
