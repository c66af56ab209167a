"""What a run needs: JPEGs, and each model as this service and its peers load it. Made once."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import skimage
from PIL import Image
from textcam_service.runtime.openvino_session import has_bf16
from textcam_service.scenes.probing import render_probing_set

TEXTCAM = str(Path(sys.executable).with_name("textcam"))
PHOTOS = (
    "astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png",
    "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
SCENES = 8  # beside the photographs
SCENE_SIDE = 640  # pixels, as a camera's small picture
PROBING = 400
DEFAULT_BACKBONE = Path("build/backbone")


@dataclass(frozen=True)
class Model:
    """One network.

    Attributes:
        name: Of the network.
        backbone: Folder that `textcam export` wrote.
        bank: Concept bank, or None for the packaged one.
        source: What `textcam export` made it of: the network, and its weights.
    checkpoint: Where the same weights lie as a torch state dict, once a peer needed them.
    """

    name: str
    backbone: Path
    bank: Path | None
    source: tuple
    checkpoint: Path

    def write_checkpoint(self):
        """For the peers."""
        if self.checkpoint.is_file():
            return
        import torch  # noqa: PLC0415 - the run without peers needs none
        from textcam_service.offline.networks.loading import load_network  # noqa: PLC0415 - likewise

        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        torch.save(load_network(*self.source).module.state_dict(), self.checkpoint)


def jpegs(folder):
    """Photographs that scikit-image ships and rendered scenes, as JPEG files of quality 90."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:02}.jpg" for index in range(len(PHOTOS) + SCENES)]
    if all(path.is_file() for path in paths):
        return paths
    data = Path(skimage.__file__).parent / "data"
    scenes = render_probing_set(folder / "scenes", SCENES, seed=200)
    for path, source in zip(paths, [*(data / name for name in PHOTOS), *scenes], strict=True):
        image = Image.open(source).convert("RGB")
        if source in scenes:
            image = image.resize((SCENE_SIDE, SCENE_SIDE), Image.Resampling.BICUBIC)
        image.save(path, quality=90)
    return paths


def model(name, work):
    """A model by its name, "resnet50" (seeded weights) or "efficientnet_lite0"."""
    if name == "efficientnet_lite0":
        backbone, bank, source = DEFAULT_BACKBONE, None, (name, None)
    else:
        backbone, bank, source = work / name / "backbone", work / name / "bank", _seeded(name)
        _export(name, backbone)
        _build_bank(backbone, bank, work / "probing")
    return Model(name, backbone, bank, source, work / name / "weights.pt")


def quantized(model, work, photographs):
    """The model in int8, if it explains as its float form does; None without photographs."""
    if not photographs.is_dir():
        return None
    backbone = work / model.name / "int8"
    if not (backbone / "backbone.json").is_file():
        bank = () if model.bank is None else ("--bank", model.bank)
        given = ("--backbone", model.backbone, *bank, "--images", photographs)
        _textcam("quantize", *given, "--output", backbone)
    return replace(model, backbone=backbone)


def compared_bf16(model, engines, photographs):
    """Whether the model may be served in bf16 here: compared now, with a record in `engines`."""
    if not photographs.is_dir() or not has_bf16():
        return False
    bank = () if model.bank is None else ("--bank", model.bank)
    given = ("--backbone", model.backbone, *bank, "--images", photographs)
    how = ("--providers", "openvino", "--precision", "bf16", "--engine-cache", engines)
    words = [TEXTCAM, "parity", *map(str, (*given, *how))]
    return subprocess.run(words, check=False).returncode == 0


def _seeded(name):
    return f"torchvision:{name}", "none"


def _export(name, backbone):
    if not (backbone / "backbone.json").is_file():
        network, weights = _seeded(name)
        _textcam("export", "--model", network, "--weights", weights, "--output", backbone)


def _build_bank(backbone, bank, probing):
    """A bank of the product's own vocabulary, out of few scenes: its size is what matters here."""
    if (bank / "bank.json").is_file():
        return
    if not (probing / "truth.json").is_file():
        _textcam("scenes", "--count", PROBING, "--output", probing)
    _textcam("bank", "build", "--backbone", backbone, "--images", probing, "--output", bank)


def _textcam(*words):
    subprocess.run([TEXTCAM, *map(str, words)], check=True)
