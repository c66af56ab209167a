"""Export and embedders with real networks; bank building on pictures made here."""

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import open_clip
import pytest
import torch
import torchvision
from conftest import PHOTOS, TEXTCAM
from PIL import Image
from textcam_service.backbone import Backbone
from textcam_service.bank import read_bank
from textcam_service.core.channels import ChannelSettings
from textcam_service.core.types import Preprocessing
from textcam_service.errors import EmbedderError, ExportRefused, ProbingSetError
from textcam_service.offline import export as export_module
from textcam_service.offline.build import build_bank, probing_order
from textcam_service.offline.embed import OpenClipEmbedder, PackagedEmbedder, load_embedder
from textcam_service.offline.export import export_network
from textcam_service.offline.networks import Network, load_network
from torch import nn

SMALL = Preprocessing(36, 32, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


class Gap(nn.Module):
    """A small GAP + linear classifier; `between` stands where nothing may stand."""

    def __init__(self, between=None):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 12, 3, stride=4), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.between = between or nn.Identity()
        self.fc = nn.Linear(12, 4)

    def forward(self, image):
        return self.fc(self.between(self.pool(self.features(image)).flatten(1)))


def small(module):
    return Network("small", module.eval(), SMALL, ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def seeded():
    torch.manual_seed(0)
    return Gap()


def test_the_exported_backbone_computes_what_torch_computes(seeded, tmp_path):
    report = export_network(small(seeded), tmp_path / "b")
    assert report.difference <= 1e-4
    backbone = Backbone(tmp_path / "b")
    for count in (1, 5):
        images = np.random.default_rng(count).standard_normal((count, 3, 32, 32), np.float32)
        logits, maps = backbone.run(images)
        with torch.no_grad():
            expected = seeded(torch.from_numpy(images)).numpy()
            features = seeded.features(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        np.testing.assert_allclose(maps, features, atol=1e-4)
        from_head = maps.mean((2, 3)) @ backbone.head_weights.T + backbone.head_bias
        np.testing.assert_allclose(from_head, logits, atol=1e-4)


def test_a_real_resnet_is_exported(tmp_path):
    report = export_network(load_network("torchvision:resnet18", "none"), tmp_path / "b")
    assert (report.channel_count, report.map_height, report.map_width) == (512, 7, 7)
    assert Backbone(tmp_path / "b").manifest.preprocessing.resize == 256


def test_a_head_that_is_not_linear_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ExportRefused, match="no GAP \\+ linear"):
        export_network(small(Gap(nn.Tanh())), tmp_path / "b")
    with pytest.raises(ExportRefused, match="no global average pooling"):
        export_network(small(nn.Sequential(nn.Flatten(), nn.Linear(3072, 4))), tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_a_small_head_hides_no_nonlinearity(tmp_path):
    bent = Gap(nn.Tanh())
    with torch.no_grad():
        bent.fc.weight *= 1e-3
        bent.fc.bias *= 1e-3
        bent.features[0].bias += 1
    with pytest.raises(ExportRefused, match="no GAP \\+ linear"):
        export_network(small(bent), tmp_path / "b")


def test_a_fine_tuned_checkpoint_brings_its_classes(tmp_path):
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), tmp_path / "mine.pt")
    network = load_network("torchvision:resnet18", str(tmp_path / "mine.pt"))
    assert network.class_names == ("class (0)", "class (1)", "class (2)")
    assert export_network(network, tmp_path / "b").channel_count == 512
    assert not network.module.avgpool._forward_pre_hooks


def test_a_graph_that_computes_otherwise_is_refused(seeded, tmp_path, monkeypatch):
    def off(*arguments, **options):
        session = ort.InferenceSession(*arguments, **options)
        return SimpleNamespace(run=lambda *given: [a + 0.01 for a in session.run(*given)])

    monkeypatch.setattr(export_module, "ort", SimpleNamespace(InferenceSession=off))
    with pytest.raises(ExportRefused, match="differs from torch"):
        export_network(small(seeded), tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_unknown_networks_and_weights_are_refused():
    for name, weights in (("nothing", None), ("torchvision:resnet18", "NO_SUCH_TAG")):
        with pytest.raises(ExportRefused):
            load_network(name, weights)


def test_the_packaged_embedder_puts_a_cat_nearer_to_cats():
    embedder = PackagedEmbedder()
    images = [Image.open(PHOTOS / name).convert("RGB") for name in ("chelsea.png", "coffee.png")]
    vectors = embedder.embed_images(images)
    texts = embedder.embed_texts(["a cat", "a cup of coffee"])
    similarity = vectors @ texts.T
    assert similarity[0, 0] > similarity[0, 1] + 0.1
    assert similarity[1, 1] > similarity[1, 0] + 0.1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    (folder / "textcam-tiny.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder)
    torch.manual_seed(1)
    model = open_clip.create_model("textcam-tiny").eval()
    torch.save(model.state_dict(), folder / "tiny.pt")
    return model, folder / "tiny.pt"


def test_open_clip_loads_a_local_checkpoint_and_embeds_as_the_model_does(clip):
    model, path = clip
    embedder = load_embedder(f"open_clip:textcam-tiny:{path}")
    tokens = open_clip.get_tokenizer("textcam-tiny")(["a cat", "a dog"])
    with torch.no_grad():
        expected = nn.functional.normalize(model.encode_text(tokens), dim=1).numpy()
    np.testing.assert_allclose(embedder.embed_texts(["a cat", "a dog"]), expected, atol=1e-5)
    image = Image.open(PHOTOS / "chelsea.png").convert("RGB")
    assert embedder.embed_images([image, image]).shape == (2, 32)
    assert embedder.identity == OpenClipEmbedder("textcam-tiny", str(path)).identity


def test_an_embedder_that_cannot_be_loaded_says_so():
    for spec in ("nothing", "open_clip:textcam-none:x", "open_clip:ViT-B-32"):
        with pytest.raises(EmbedderError):
            load_embedder(spec)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(60):
        colour = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(colour).resize((40, 40)).save(folder / f"{number:02}.png")
    (folder / "05.png").write_bytes(b"damaged")
    return sorted(folder.iterdir())


def test_a_bank_is_built_skips_what_is_damaged_and_resumes(seeded, clip, pictures, tmp_path):
    export_network(small(seeded), tmp_path / "b")
    backbone = Backbone(tmp_path / "b")
    embedder = load_embedder(f"open_clip:textcam-tiny:{clip[1]}")
    settings = ChannelSettings(samples=20)
    words = ["red", "green", "blue", "grey"]
    with pytest.raises(ProbingSetError, match="too few"):
        build_bank(backbone, embedder, pictures, words, tmp_path / "bank", ChannelSettings())
    assert (tmp_path / "bank.work").is_dir()
    assert not (tmp_path / "bank").exists()

    def never(_images):
        raise AssertionError("extraction did not resume")

    embedder.embed_images = never
    artefact, seen = build_bank(backbone, embedder, pictures, words, tmp_path / "bank", settings)
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


def test_the_probing_order_limits_each_class_and_is_a_fixed_shuffle():
    predicted = np.array([0, 0, 0, 1, 0, 1, 2])
    assert sorted(probing_order(predicted, 2).tolist()) == [0, 1, 3, 5, 6]
    assert sorted(probing_order(predicted, None).tolist()) == list(range(7))
    assert probing_order(predicted, 2).tolist() == probing_order(predicted, 2).tolist()
