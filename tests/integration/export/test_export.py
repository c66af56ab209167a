"""What `textcam export` writes computes what torch computes, or is refused."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest
import skimage
import timm
import torch
from PIL import Image, ImageOps
from textcam_service.core.heatmap import heatmap
from textcam_service.core.preprocess import normalize
from textcam_service.core.types import Crop, Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network, weights_digest
from textcam_service.offline.networks.network import Network
from textcam_service.runtime.backbone import Backbone
from torch import nn
from torchvision import models

ZOO = Path(__file__).parents[2] / "zoo" / "run_zoo.py"
_SMALL = Preprocessing(36, 32, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class _Tiny(nn.Module):
    """Two convolutions, GAP, and whatever head."""

    def __init__(self, head):
        super().__init__()
        torch.manual_seed(1)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 6, 3, 2, 1)
        )
        self.head = head

    def forward(self, x):
        return self.head(self.features(x).relu_().mean((2, 3)))


class _Functional(_Tiny):
    """ReLU by function, and not in place."""

    def forward(self, x):
        return self.head(self.features(x).relu().mean((2, 3)))


class _Drifting(_Tiny):
    """Computes something else once it is exported."""

    def forward(self, x):
        logits = super().forward(x)
        return logits * 1.001 if torch.compiler.is_exporting() else logits


class _Pooled(_Tiny):
    """ReLU by function, pooling by module: the maps are seen only as the pooling's input."""

    def __init__(self, head):
        super().__init__(head)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.head(self.pool(self.features(x).relu()).flatten(1))


def _network(module, classes=4):
    return Network("tiny", module.eval(), _SMALL, tuple(f"c{i}" for i in range(classes)))


@pytest.fixture(scope="module")
def lite0():
    return load_network("efficientnet_lite0")


@pytest.fixture(scope="module")
def lite0_export(lite0, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "lite0"
    return export_network(lite0, folder), Backbone(folder)


def _images(count, size, seed=7):
    return np.random.default_rng(seed).normal(0, 1, (count, 3, size, size)).astype(np.float32)


def test_lite0_is_exported_with_its_maps_head_and_names(lite0_export):
    report, backbone = lite0_export
    manifest = backbone.manifest
    assert (manifest.channel_count, manifest.map_height, manifest.map_width) == (1280, 7, 7)
    assert (manifest.target_layer, manifest.head_kind) == ("_swish", "gap_linear")
    assert len(set(manifest.class_names)) == 1000
    assert manifest.grid_shift == (0, 0)  # it pads right and below; its kernels make up for it
    assert backbone.head_weights.shape == (1000, 1280)
    assert max(report.logits_error, report.maps_error) <= 1e-4


@pytest.mark.parametrize("count", [1, 2, 5])
def test_lite0_served_computes_what_torch_computes_at_any_batch_size(lite0, lite0_export, count):
    images = _images(count, 224)
    logits, maps = lite0_export[1].run(images)
    with torch.inference_mode():
        wanted_maps = lite0.module.extract_features(torch.tensor(images)).numpy()
        wanted = lite0.module(torch.tensor(images)).numpy()
    assert maps.shape == (count, 1280, 7, 7)
    np.testing.assert_allclose(maps, wanted_maps, atol=1e-4)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)


def test_logits_are_the_head_over_the_mean_of_the_maps(lite0_export):
    backbone = lite0_export[1]
    logits, maps = backbone.run(_images(2, 224))
    rebuilt = maps.mean(axis=(2, 3)) @ backbone.head_weights.T + backbone.head_bias
    np.testing.assert_allclose(rebuilt, logits, rtol=1e-4, atol=1e-4)


def test_heatmaps_of_a_mirrored_photograph_are_mirrored(lite0_export):
    """Cells drawn off where the network looks move the heat the same way in both."""
    backbone = lite0_export[1]
    both = [crop for name in PHOTOGRAPHS for crop in _crops(name, 8)]
    towards = []
    for turn in (ImageOps.mirror, ImageOps.flip):
        pairs = zip(both, map(turn, both), strict=True)
        off = [_mirrored(backbone, *pair, turn) for pair in pairs]
        towards.append(np.mean(off))
    # A cell is 32 pixels wide; 40 pairs scatter by 1.5. Drawn by its paddings alone: (12, 9).
    assert np.abs(towards).max() < 6, towards


PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png", "motorcycle_left.png")


def _crops(name, count):
    rng = np.random.default_rng(3)
    picture = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
    for _ in range(count):
        side = int(min(picture.size) * rng.uniform(0.6, 1))
        left, top = rng.integers(0, np.array(picture.size) - side + 1)
        box = (left, top, left + side, top + side)
        yield picture.resize((224, 224), Image.Resampling.LANCZOS, box=box)


def _mirrored(backbone, picture, turned, turn):
    """Half of the way from the heat's centre to that of the mirrored picture, turned back."""
    size = backbone.manifest.preprocessing
    pixels = np.stack([normalize(np.asarray(one), size) for one in (picture, turned)])
    logits, maps = backbone.run(pixels)
    weights = backbone.head_weights[logits[0].argmax()]
    axis = 1 if turn is ImageOps.mirror else 0
    centres = []
    for own in maps:
        crop = backbone.on_grid(Crop(0, 0, 224, 224))
        heat = heatmap(np.einsum("d,dhw->hw", weights, own), crop, 224, 224)
        heat = np.where(heat > heat.max() / 2, heat, 0)
        along = heat.sum(axis=1 - axis)
        centres.append(along @ (np.arange(224) + 0.5) / along.sum())
    return (centres[0] - (224 - centres[1])) / 2


def test_the_digest_names_the_weights_and_not_the_load(lite0, lite0_export):
    again = load_network("efficientnet_lite0")
    assert weights_digest(again, "_swish") == lite0_export[0].weights_digest
    renamed = dataclasses.replace(again, class_names=("x", *again.class_names[1:]))
    assert weights_digest(renamed, "_swish") != lite0_export[0].weights_digest
    with torch.no_grad():
        again.module._fc.bias[0] += 1
    assert weights_digest(again, "_swish") != lite0_export[0].weights_digest


def test_loading_prints_nothing(capsys):
    load_network("efficientnet_lite0")
    assert capsys.readouterr().out == ""


def test_a_torchvision_resnet_is_exported(tmp_path):
    network = load_network("torchvision:resnet18", "none")
    report = export_network(network, tmp_path / "b")
    assert (report.target_layer, report.head_kind) == ("layer4", "gap_linear")
    assert report.maps_shape == (512, 7, 7)
    # Five strides of two, each with symmetric padding: -0.5 (1 + 2 + 4 + 8 + 16); what it has
    # of weights is random, and makes up for nothing.
    assert Backbone(tmp_path / "b").manifest.grid_shift == pytest.approx((-15.5, -15.5), abs=1.5)
    images = _images(2, 224)
    logits, maps = Backbone(tmp_path / "b").run(images)
    captured = []
    network.module.avgpool.register_forward_pre_hook(lambda _, x: captured.append(x[0].numpy()))
    with torch.inference_mode():
        wanted = network.module(torch.tensor(images)).numpy()
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(maps, captured[0], rtol=1e-4, atol=1e-4)


def test_seeded_random_weights_are_the_same_at_each_load():
    first, second = (load_network("torchvision:resnet18", "none") for _ in range(2))
    assert weights_digest(first, "layer4") == weights_digest(second, "layer4")


def test_maps_seen_only_at_the_pooling_are_found_there(tmp_path):
    report = export_network(_network(_Pooled(nn.Linear(6, 4))), tmp_path / "b")
    assert report.target_layer == "input of pool"
    maps = Backbone(tmp_path / "b").run(_images(1, 32))[1]
    assert maps.min() == 0


def test_a_checkpoint_brings_its_classes(tmp_path):
    state = models.resnet18(num_classes=3).state_dict()
    torch.save({"state_dict": state, "class_names": ["a", "b", "b"]}, tmp_path / "w.pth")
    network = load_network("torchvision:resnet18", str(tmp_path / "w.pth"))
    assert network.class_names == ("a", "b (1)", "b (2)")
    assert torch.equal(network.module.fc.weight, state["fc.weight"])


def test_an_mlp_head_is_exported_with_its_gradients(tmp_path):
    network = _network(_Tiny(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))))
    report = export_network(network, tmp_path / "b")
    assert (report.head_kind, report.target_layer) == ("gradient", "features")
    assert "a head with gradients" in str(report)
    assert "at features" in str(report)
    assert "images of 32 x 32 after resizing to 36 (bilinear, center)" in str(report)


def test_a_nonlinearity_that_no_module_shows_belongs_to_the_head(tmp_path):
    """The features module's output is not yet what is pooled: its negative part is cut."""
    network = _network(_Functional(nn.Linear(6, 4)))
    assert export_network(network, tmp_path / "b").head_kind == "gradient"
    assert Backbone(tmp_path / "b").run(_images(1, 32))[1].min() < 0


def test_a_network_of_tiny_values_is_not_taken_at_its_word(tmp_path):
    """What is pooled is compared on its own scale, so small is not the same as equal."""
    tiny = _Functional(nn.Linear(6, 4, bias=False))
    with torch.no_grad():
        tiny.features[2].weight *= 1e-9
        tiny.features[2].bias *= 1e-9
    assert export_network(_network(tiny), tmp_path / "b").head_kind == "gradient"


def test_what_is_done_in_place_is_seen_as_the_head_sees_it(tmp_path):
    assert export_network(_network(_Tiny(nn.Linear(6, 4))), tmp_path / "b").head_kind == (
        "gap_linear"
    )
    assert Backbone(tmp_path / "b").run(_images(1, 32))[1].min() == 0


def test_probabilities_in_place_of_logits_are_refused(tmp_path):
    head = nn.Sequential(nn.Linear(6, 4), nn.Softmax(dim=1))
    with pytest.raises(ExportRefused, match="without its last softmax"):
        export_network(_network(_Tiny(head)), tmp_path / "b")


def test_a_compiled_module_is_exported_as_what_it_was_made_from(tmp_path):
    """It is tried before it is watched: what was compiled meanwhile would call no hooks."""
    compiled = torch.compile(_Tiny(nn.Linear(6, 4)).eval(), backend="eager")
    report = export_network(_network(compiled), tmp_path / "b")
    assert (report.head_kind, report.target_layer) == ("gap_linear", "_orig_mod.features")


def test_an_export_that_computes_something_else_is_refused_with_figures(tmp_path):
    drifting = _Drifting(nn.Linear(6, 4))
    with pytest.raises(ExportRefused, match=r"differs from torch by .*\(logits\)"):
        export_network(_network(drifting), tmp_path / "b", tolerance=1e-6)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("output", ["logits", "maps"])
def test_a_difference_is_judged_on_the_values_own_scale(output, tmp_path):
    """Off by a thousandth of a billionth, which is a thousandth of the largest value."""

    class Vanishing(_Tiny):
        def forward(self, x):
            off = 1.001 if torch.compiler.is_exporting() else 1.0
            maps = self.features(x) * (1e-9 * (off if output == "maps" else 1))
            return self.head(self.probe(maps).mean((2, 3))) * (off if output == "logits" else 1)

    vanishing = Vanishing(nn.Sequential(nn.Linear(6, 4, bias=False), nn.Tanh()))
    vanishing.probe = nn.Identity()
    with pytest.raises(ExportRefused, match=r"0\.001 .*more than 0\.0001"):
        export_network(_network(vanishing), tmp_path / "b", target_layer="probe")


def test_the_zoos_networks_are_calibrated_so_that_their_values_do_not_vanish():
    calibrated = runpy.run_path(str(ZOO))["calibrated"]
    network = load_network("torchvision:mobilenet_v2", "none")
    images = torch.tensor(_images(2, 224))
    with torch.inference_mode():
        assert network.module(images).abs().max() < 1e-6
        assert calibrated(network).module(images).abs().max() > 1e-2
    assert not any(module.training for module in network.module.modules())


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("nothing", None, "unknown network"),
        ("torchvision:nothing", None, "cannot be loaded"),
        ("timm:nothing", None, "cannot be loaded"),
        ("torchvision:resnet18", "/nowhere.pth", "neither a weights tag"),
    ],
)
def test_what_cannot_be_loaded_is_named(name, weights, message):
    with pytest.raises(ExportRefused, match=message):
        load_network(name, weights)


def test_pooling_by_function_is_found_at_the_layer_before_it(tmp_path):
    """MobileNet v2 pools by a function that no module shows, and drops out before its head."""
    report = export_network(load_network("torchvision:mobilenet_v2", "none"), tmp_path / "b")
    assert (report.target_layer, report.head_kind) == ("features", "gap_linear")
    backbone = Backbone(tmp_path / "b")
    logits, maps = backbone.run(_images(1, 224))
    rebuilt = maps.mean(axis=(2, 3)) @ backbone.head_weights.T + backbone.head_bias
    np.testing.assert_allclose(rebuilt, logits, rtol=1e-4, atol=1e-4)


def test_a_timm_network_is_exported_with_its_own_preprocessing(tmp_path):
    network = load_network("timm:resnet18.a1_in1k", "none")
    report = export_network(network, tmp_path / "b")
    assert (report.maps_shape, network.preprocessing.interpolation) == ((512, 7, 7), "bicubic")


def test_timms_squashed_networks_say_so_and_old_digests_stay():
    network = load_network("timm:tf_efficientnetv2_b3", "none")
    wanted = timm.data.resolve_model_data_config(network.module)
    assert network.preprocessing.crop_mode == wanted["crop_mode"] == "squash"
    assert network.preprocessing.identity()["crop_mode"] == "squash"
    assert "crop_mode" not in _SMALL.identity()
