"""Training of the scene world's classifier, its biased twin and its CLIP; writes their weights.

    python -m textcam_service.offline.scene_training

Seeded throughout. Figures on held-out scenes are printed and kept beside the weights.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.loss import ClipLoss
from safetensors.torch import save_file
from torch import Tensor, nn

from textcam_service.artefacts.packaged import SCENES
from textcam_service.core.types import IntArray, UInt8Array
from textcam_service.offline.embedders.base import TEMPLATES
from textcam_service.offline.networks.scenes import CLIP_NAME, PREPROCESSING, SceneNet
from textcam_service.runtime.cpus import usable_cpus
from textcam_service.scenes.classes import BIASED, CLASSES, Bias, class_scene
from textcam_service.scenes.render import render
from textcam_service.scenes.world import ATTRIBUTES, FLOORS, Scene, random_scene

# First word of every scene's seed, so that no scene is in two sets.
TRAINING, CAPTIONED, HELD_OUT, HELD_OUT_SINGLE = 1, 2, 3, 4
_SCENES, _CAPTIONED_SCENES, _HELD_OUT_SCENES = 20_000, 22_000, 1_000
_EPOCHS, _CLIP_EPOCHS = 7, 9
_BATCH, _CLIP_BATCH = 128, 256
_SHIFT = 4  # pixels of random shift
_CHUNK = 250

SceneOf = Callable[[int], Scene]


def labelled_scene(seed: int, bias: Bias | None, index: int) -> Scene:
    """Return the index-th scene of a set; classes come in turn."""
    return class_scene(np.random.default_rng([seed, index]), index % len(CLASSES), bias)


def captioned_scene(seed: int, index: int) -> Scene:
    """Return the index-th scene of a set without classes: every second one has a lone object."""
    return random_scene(np.random.default_rng([seed, index]), 1 if index % 2 else None)


def render_all(scene_of: SceneOf, count: int) -> UInt8Array:
    """Render scenes 0 ... count - 1 on all CPUs: (N, S, S, 3)."""
    starts = range(0, count, _CHUNK)
    with ProcessPoolExecutor(usable_cpus(), mp_context=get_context("spawn")) as pool:
        return np.concatenate(list(pool.map(partial(_render_chunk, scene_of, count), starts)))


def _render_chunk(scene_of: SceneOf, count: int, start: int) -> UInt8Array:
    indices = range(start, min(start + _CHUNK, count))
    return np.stack([render(scene_of(index)).image for index in indices])


def train_classifier(bias: Bias | None) -> tuple[SceneNet, dict[str, Any]]:
    """Train a classifier in a world; figures are of the unbiased one."""
    torch.manual_seed(0)
    images = render_all(partial(labelled_scene, TRAINING, bias), _SCENES)
    labels = torch.arange(_SCENES) % len(CLASSES)
    network: Any = SceneNet().to(memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss()
    for batch, chosen, advance in _epochs(network, images, _EPOCHS, _BATCH, 4e-3):
        advance(criterion(network(batch), labels[chosen]))
    network = _rounded(network.to(memory_format=torch.contiguous_format))
    held_out = render_all(partial(labelled_scene, HELD_OUT, None), _HELD_OUT_SCENES)
    right = _predicted(network, held_out) == np.arange(_HELD_OUT_SCENES) % len(CLASSES)
    by_class = {cls.name: float(right[i :: len(CLASSES)].mean()) for i, cls in enumerate(CLASSES)}
    return network, {"accuracy": float(right.mean()), "by_class": by_class}


def train_clip() -> tuple[nn.Module, dict[str, float]]:
    """Train the CLIP by open_clip's loss on scenes and captions of every length.

    Plain heads, which are discarded afterwards, also teach the image tower to distinguish the words
    of lone objects: contrast alone is slow to notice small shapes.
    """
    torch.manual_seed(0)
    open_clip.add_model_config(SCENES / f"{CLIP_NAME}.json")
    model: Any = open_clip.create_model(CLIP_NAME).to(memory_format=torch.channels_last)
    tokenizer: Any = open_clip.get_tokenizer(CLIP_NAME)
    scenes = [captioned_scene(CAPTIONED, index) for index in range(_CAPTIONED_SCENES)]
    images = render_all(partial(captioned_scene, CAPTIONED), _CAPTIONED_SCENES)
    lone = torch.tensor([len(scene.objects) == 1 for scene in scenes])
    words = torch.tensor([_places_of_words(scene) for scene in scenes])
    heads = nn.ModuleList(
        nn.Linear(model.visual.trunk.num_features, len(kind)) for kind in _KINDS.values()
    )
    rng = np.random.default_rng(0)
    criterion, plain = ClipLoss(), nn.CrossEntropyLoss()
    known = torch.zeros(model.vocab_size, dtype=torch.bool)
    both = nn.ModuleList([model, heads])
    for batch, chosen, advance in _epochs(both, images, _CLIP_EPOCHS, _CLIP_BATCH, 4e-3, _CLIP):
        texts = tokenizer([caption(scenes[index], rng) for index in chosen.tolist()])
        known[texts.flatten()] = True
        features = model.visual.trunk(batch)
        seen = nn.functional.normalize(model.visual.head(features), dim=1)
        said = model.encode_text(texts, normalize=True)
        alone = lone[chosen]
        told = [
            plain(head(features[alone]), words[chosen[alone], kind])
            for kind, head in enumerate(heads)
        ]
        advance(criterion(seen, said, model.logit_scale.exp()) + sum(told))
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(100))
    with torch.no_grad():  # words that it never met: no noise to keep
        model.token_embedding.weight[~known] = 0
    model = _rounded(model)
    return model, _zero_shot(model, tokenizer)


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Draw a true sentence of a scene: all of it, one object, some of its words, or the floor."""
    kind = rng.random()
    if kind < 0.1:
        return scene.caption
    if kind < 0.2:
        said = f"{scene.floor} floor"
    else:
        words = scene.objects[rng.integers(len(scene.objects))].attributes
        kept = set(rng.permutation(list(words))[: rng.integers(1, len(words))])
        if kind < 0.75:  # mostly as people speak: all of the words, or some and the noun
            kept = set(words) if kind < 0.45 else kept | {"shape"}
        said = " ".join(words[name] for name in words if name in kept)
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(said)


_KINDS = {**ATTRIBUTES, "floor": FLOORS}


def _places_of_words(scene: Scene) -> list[int]:
    """Return the places of the first object's words, and of the floor's, in their kinds."""
    said = {**scene.objects[0].attributes, "floor": scene.floor}
    return [_KINDS[kind].index(word) for kind, word in said.items()]


_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_CLASSIFIER = PREPROCESSING.mean, PREPROCESSING.std


def _epochs(
    model: nn.Module,
    images: UInt8Array,
    epochs: int,
    size: int,
    rate: float,
    scale: tuple[Sequence[float], Sequence[float]] = _CLASSIFIER,
) -> Iterator[tuple[Tensor, Tensor, Callable[[Tensor], None]]]:
    """Yield batches of augmented images, their indices, and a function that steps down a loss."""
    model.train()
    steps = epochs * (len(images) // size)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.15)
    begun = time.monotonic()

    def advance(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        done = schedule.last_epoch
        if done % 100 == 0 or done == steps:
            spent = time.monotonic() - begun
            print(f"  step {done}/{steps}, loss {loss.item():.3f}, {spent:.0f} s", flush=True)

    for _ in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - size + 1, size):
            chosen = order[start : start + size]
            yield _augmented(images, chosen, *scale), chosen, advance


def _augmented(
    images: UInt8Array, chosen: Tensor, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Mirror and shift images at random and normalise them; no word or class changes."""
    batch = _normalize(images[chosen.numpy()], mean, std)
    if torch.rand(()) < 0.5:
        batch = batch.flip(3)
    side = batch.shape[3]
    padded = nn.functional.pad(batch, (_SHIFT,) * 4, mode="replicate")
    top, left = torch.randint(0, 2 * _SHIFT + 1, (2,)).tolist()
    cut = padded[:, :, top : top + side, left : left + side]
    return cut.contiguous(memory_format=torch.channels_last)


def _normalize(images: UInt8Array, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (batch - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _predicted(network: nn.Module, images: UInt8Array) -> IntArray:
    with torch.inference_mode():
        logits = [
            network(_normalize(images[start : start + _CHUNK], *_CLASSIFIER))
            for start in range(0, len(images), _CHUNK)
        ]
    return np.asarray(torch.cat(logits).argmax(1).numpy(), np.int64)


def _zero_shot(model: Any, tokenizer: Any) -> dict[str, float]:
    """Measure the share of lone objects with their word of each kind as the nearest text."""
    lone = [_lone_scene(index) for index in range(_HELD_OUT_SCENES)]
    images = render_all(_lone_scene, _HELD_OUT_SCENES)
    accuracy = {}
    with torch.inference_mode():
        seen = model.encode_image(_normalize(images, *_CLIP), normalize=True)
        for kind, words in _KINDS.items():
            texts = [f"{word} floor" if kind == "floor" else word for word in words]
            said = sum(
                model.encode_text(tokenizer([form.format(text) for text in texts]), normalize=True)
                for form in TEMPLATES
            )
            found = (seen @ nn.functional.normalize(said, dim=1).T).argmax(1).tolist()
            truth = [
                scene.floor if kind == "floor" else scene.objects[0].attributes[kind]
                for scene in lone
            ]
            accuracy[kind] = float(
                np.mean([words[f] == t for f, t in zip(found, truth, strict=True)])
            )
    return accuracy


def _lone_scene(index: int) -> Scene:
    return random_scene(np.random.default_rng([HELD_OUT_SINGLE, index]), 1)


def _rounded(module: Any) -> Any:
    """Round weights to float16, which is what the file keeps."""
    return module.eval().half().float()


def _save(module: nn.Module, path: Path) -> None:
    save_file(
        {
            name: (value.half() if value.is_floating_point() else value).contiguous()
            for name, value in module.state_dict().items()
        },
        path,
    )


def main() -> None:
    """Train the requested networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=SCENES)
    parser.add_argument("--only", choices=("classifier", "biased", "clip"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, Callable[[], tuple[nn.Module, dict[str, Any]]]] = {
        "classifier": partial(train_classifier, None),
        "biased": partial(train_classifier, BIASED),
        "clip": train_clip,
    }
    report_path = arguments.output / "training.json"
    report = json.loads(report_path.read_text()) if report_path.is_file() else {}
    for name, job in jobs.items():
        if arguments.only in (None, name):
            print(name, flush=True)
            begun = time.monotonic()
            module, figures = job()
            _save(module, arguments.output / f"{name}.safetensors")
            report[name] = {**figures, "seconds": round(time.monotonic() - begun)}
            print(json.dumps(report[name], indent=2), flush=True)
            report_path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
