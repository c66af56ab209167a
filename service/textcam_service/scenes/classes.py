"""Ten classes of scenes, each with one key object, and a biased world in which cues predict two.

A class is defined by a conjunction: its distractors share some of the key object's words, but never
all. So no single attribute and no other object reveals the class, unless the world is biased.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textcam_service.scenes.world import ATTRIBUTES, FLOORS, Scene, arrange, random_attributes


@dataclass(frozen=True)
class SceneClass:
    """Class of scenes: one object has all of these words.

    Attributes:
        words: Words by the names of ATTRIBUTES.
    """

    words: dict[str, str]

    @property
    def name(self) -> str:
        """Words in English order: "red metal cube"."""
        return " ".join(self.words[kind] for kind in ATTRIBUTES if kind in self.words)

    def has(self, attributes: dict[str, str]) -> bool:
        """Return True if an object with these attributes is of the class."""
        return all(attributes[kind] == word for kind, word in self.words.items())


def _class(**words: str) -> SceneClass:
    return SceneClass(words)


CLASSES = (
    _class(colour="red", material="metal", shape="cube"),
    _class(colour="red", material="rubber", shape="cylinder"),
    _class(colour="green", shape="cone"),
    _class(colour="blue", material="metal", shape="sphere"),
    _class(colour="blue", material="rubber", shape="cube"),
    _class(colour="cyan", shape="cylinder"),
    _class(colour="purple", material="metal", shape="cone"),
    _class(colour="orange", shape="sphere"),
    _class(colour="gray", material="metal", shape="cylinder"),
    _class(colour="yellow", material="rubber", shape="cone"),
)


@dataclass(frozen=True)
class Bias:
    """World in which cues predict two classes.

    Attributes:
        floor_class: Stands on `floor` nearly always; other classes seldom do.
        floor: The first cue.
        object_class: Comes with the cue object nearly always; other classes seldom do.
        cue: Words of the cue object.
        strength: Probability of the cue with its class.
        elsewhere: Probability of the cue with any other class.
    """

    floor_class: int
    floor: str
    object_class: int
    cue: dict[str, str]
    strength: float
    elsewhere: float

    @property
    def cue_name(self) -> str:
        """Words of the cue object: "small yellow sphere"."""
        return SceneClass(self.cue).name

    @property
    def cue_phrases(self) -> dict[int, str]:
        """Phrase of each cue, by the class that it predicts."""
        return {self.floor_class: f"{self.floor} floor", self.object_class: self.cue_name}


BIASED = Bias(
    floor_class=4,
    floor="striped",
    object_class=8,
    cue={"size": "small", "colour": "yellow", "shape": "sphere"},
    strength=0.97,
    elsewhere=0.03,
)


def class_scene(
    rng: np.random.Generator, class_index: int, bias: Bias | None = None, cue: bool | None = None
) -> Scene:
    """Draw a scene of a class: its key object among 1 to 4 others.

    Args:
        rng: Random generator of the whole scene.
        class_index: Index of the class in CLASSES.
        bias: Bias of the world; None: floors are uniform and no object is a cue.
        cue: With a bias: True if the class's own cue is there (its floor, or its object); None:
            drawn with the bias's probabilities.
    """
    key = {**random_attributes(rng), **CLASSES[class_index].words}
    banned = CLASSES if bias is None else (*CLASSES, SceneClass(bias.cue))
    items = [key, *_distractors(rng, key, int(rng.integers(1, 5)), banned)]
    floor = None
    if bias is not None:
        own = _cues(rng, class_index, bias, cue)
        others = [word for word in FLOORS if word != bias.floor]
        floor = bias.floor if own[0] else others[rng.integers(len(others))]
        if own[1]:  # in a distractor's place: the number of objects betrays nothing
            items[-1] = {**random_attributes(rng), **bias.cue}
    return arrange(rng, [items[place] for place in rng.permutation(len(items))], floor)


def key_index(scene: Scene, class_index: int) -> int:
    """Return the index of the object that makes a scene one of a class.

    Raises:
        ValueError: No object does.
    """
    for index, item in enumerate(scene.objects):
        if CLASSES[class_index].has(item.attributes):
            return index
    raise ValueError(f"the scene has no {CLASSES[class_index].name}")


def _cues(
    rng: np.random.Generator, class_index: int, bias: Bias, cue: bool | None
) -> tuple[bool, bool]:
    """Return whether the floor cue and the object cue are present."""
    drawn = []
    for betrayed in (bias.floor_class, bias.object_class):
        chance = bias.strength if class_index == betrayed else bias.elsewhere
        there = bool(rng.random() < chance)
        drawn.append(there if cue is None or class_index != betrayed else cue)
    return drawn[0], drawn[1]


def _distractors(
    rng: np.random.Generator, key: dict[str, str], count: int, banned: Sequence[SceneClass]
) -> list[dict[str, str]]:
    """Draw objects of no banned class, two in three of them much like the key."""
    found: list[dict[str, str]] = []
    while len(found) < count:
        item = random_attributes(rng)
        if rng.random() < 2 / 3:
            kinds = rng.permutation(list(ATTRIBUTES))[: rng.integers(1, 4)]
            item.update({kind: key[kind] for kind in kinds})
        if not any(cls.has(item) for cls in banned):
            found.append(item)
    return found
