"""Scenes as picture files, for building and evaluating a bank."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from textcam_service.scenes.classes import CLASSES, Bias, class_scene
from textcam_service.scenes.render import render
from textcam_service.scenes.world import object_phrases, vocabulary

PROBING_SEED = 50


def render_probing_set(
    folder: Path,
    count: int,
    seed: int = PROBING_SEED,
    bias: Bias | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Path]:
    """Render scenes of the ten classes in turn into a folder, with vocabulary and truth.

    Args:
        folder: Folder for 000000.png ..., vocabulary.txt, and truth.json as evaluation reads it.
        count: Number of scenes.
        seed: Seed of the set.
        bias: Bias of the world; None: unbiased.
        progress: Called with the number of scenes finished since the last call.

    Returns:
        The pictures' paths, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries, paths = [], []
    for index in range(count):
        class_index = index % len(CLASSES)
        scene = class_scene(np.random.default_rng([seed, index]), class_index, bias)
        paths.append(folder / f"{index:06}.png")
        Image.fromarray(render(scene).image).save(paths[-1])
        entries.append(
            {
                "file": paths[-1].name,
                "class_index": class_index,
                "caption": scene.caption,
                "phrases_in_scene": sorted(scene.phrases),
            }
        )
        progress(1)
    (folder / "vocabulary.txt").write_text("\n".join(vocabulary()) + "\n")
    of_class = {index: object_phrases(cls.words) for index, cls in enumerate(CLASSES)}
    truth = {"images": entries, "class_phrases": of_class}
    (folder / "truth.json").write_text(json.dumps(truth) + "\n")
    return paths
