"""Bank building with a real backbone and a real open_clip embedder, on pictures made here."""

import json
import os
import shutil
import subprocess

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from processes import TEXTCAM
from textcam_service.artefacts.bank import read_bank
from textcam_service.core.concepts.activated_regions import RegionSettings
from textcam_service.core.concepts.channel_embeddings import ChannelSettings
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused, ProbingSetError
from textcam_service.offline.banks.build import BankSettings, build_bank
from textcam_service.offline.dataset import ImageFolder
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.network import Network
from textcam_service.runtime.backbone import Backbone
from torch import nn

SMALL = Preprocessing(36, 32, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def small():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 12, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 4))
    return Network("small", module.eval(), SMALL, ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    (folder / "textcam-tiny.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder)
    torch.manual_seed(1)
    model = open_clip.create_model("textcam-tiny").eval()
    torch.save(model.state_dict(), folder / "tiny.pt")
    return load_embedder(f"open_clip:textcam-tiny:{folder / 'tiny.pt'}")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(60):
        colour = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(colour).resize((40, 40)).save(folder / f"{number:02}.png")
    (folder / "05.png").write_bytes(b"damaged")
    return sorted(folder.iterdir())


def test_a_bank_is_built_skips_what_is_damaged_and_resumes(clip, pictures, tmp_path, monkeypatch):
    export_network(small(), tmp_path / "b")
    backbone = Backbone(tmp_path / "b")
    settings, too_many = (BankSettings(ChannelSettings(samples=count)) for count in (20, 30))
    words = ["red", "green", "blue", "grey"]
    with pytest.raises(ProbingSetError, match=r"59 images \(unreadable: 1\) are"):
        build_bank(backbone, clip, pictures, words, tmp_path / "bank", too_many)
    assert (tmp_path / "bank.work").is_dir()
    assert not (tmp_path / "bank").exists()

    def never(_images):
        raise AssertionError("extraction did not resume")

    monkeypatch.setattr(clip, "embed_images", never)
    artefact, seen = build_bank(backbone, clip, pictures, words, tmp_path / "bank", settings)
    assert [path for path, _ in seen.skipped] == [str(pictures[5])]
    assert len(seen.predicted) == 59
    assert artefact.bank.channel_embeddings.shape == (12, 32)
    assert not (tmp_path / "bank.work").exists()
    assert read_bank(tmp_path / "bank").bank_digest == artefact.bank_digest
    for command in (["inspect"], ["verify", "--backbone", str(tmp_path / "b")]):
        done = subprocess.run(
            [TEXTCAM, "bank", command[0], str(tmp_path / "bank"), *command[1:]],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    export_network(small(), folder)
    return Backbone(folder)


def test_a_bank_is_the_same_by_torch_and_with_whatever_the_cache_holds(
    pictures, exported, tmp_path, monkeypatch
):
    """Byte for byte where the same runtime computes; else to rounding."""
    words = [f"{colour} {shape}" for colour in ("red", "grey") for shape in ("cube", "cone")]
    settings = BankSettings(ChannelSettings(samples=20))

    def build(name):
        output = tmp_path / name
        build_bank(exported, load_embedder("scenes"), pictures, words, output, settings)
        return output

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    empty = build("empty")
    assert list((tmp_path / "cache" / "textcam").glob("network-*"))
    assert list((tmp_path / "cache" / "textcam").glob("texts-*"))
    filled = build("filled")
    for file in ("bank.safetensors", "vocabulary.safetensors", "probing.safetensors"):
        assert (empty / file).read_bytes() == (filled / file).read_bytes()

    def refused(name, *_):
        raise ExportRefused(f"{name}: refused here")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr("textcam_service.offline.embedders.translated.to_onnx", refused)
    first, other = read_bank(empty).bank, read_bank(build("torch")).bank
    # Stored in half precision, where the next value is up to 5e-4 away.
    directions = first.channel_embeddings, other.channel_embeddings
    np.testing.assert_allclose(*directions, atol=5e-4)
    np.testing.assert_allclose((directions[0] * directions[1]).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(first.mean_embedding, other.mean_embedding, atol=1e-5)
    np.testing.assert_allclose(first.supports.supports, other.supports.supports, atol=1e-3)


CROPS = ChannelSettings(samples=10, regions=RegionSettings("crop"))


def test_names_that_are_no_utf_8_are_built_from_and_told(clip, pictures, exported, tmp_path):
    folder = tmp_path / "probing"
    folder.mkdir()
    for path in pictures[10:40]:
        shutil.copy(path, os.fsencode(folder) + b"/\xff" + os.fsencode(path.name))
    (folder / os.fsdecode(b"worse\xff.png")).write_bytes(b"damaged")
    # What the last one is called where it is shown: no reason to take it for that.
    shutil.copy(pictures[40], folder / r"worse\xff.png")
    command = os.fsdecode(b"textcam bank build --images \xff")
    artefact, seen = build_bank(
        exported,
        clip,
        ImageFolder.find([folder]),
        ["red", "grey"],
        tmp_path / "bank",
        BankSettings(CROPS, command=command),
    )
    assert [path for path, _ in seen.skipped] == [rf"{folder}/worse\xff.png"]
    assert len(seen.predicted) == 31
    assert artefact.bank.parameters["command"] == r"textcam bank build --images \xff"


@pytest.mark.parametrize("settings", [ChannelSettings(samples=10), CROPS])
def test_copies_of_one_image_are_refused(settings, clip, pictures, exported, tmp_path):
    copies = [pictures[0]] * 20
    with pytest.raises(ProbingSetError, match=r"no channel .* any of the 20 images more"):
        build_bank(exported, clip, copies, ["red"], tmp_path / "bank", BankSettings(settings))
    assert not (tmp_path / "bank").exists()
