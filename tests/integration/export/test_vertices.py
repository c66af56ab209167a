"""Networks on graphs: vertices at positions of their own, from export to an answer's heatmap."""

import sys
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from processes import running
from textcam_client import Client
from textcam_service.artefacts.backbone import GAP_LINEAR, GRADIENT, VERTEX_POSITIONS
from textcam_service.core.concepts.activated_regions import RegionSettings
from textcam_service.core.concepts.channel_embeddings import ChannelSettings
from textcam_service.core.methods import METHODS, MethodInput, MethodSettings, run_method
from textcam_service.core.preprocess import normalize
from textcam_service.core.types import Preprocessing
from textcam_service.core.vertices import Vertices
from textcam_service.errors import ExportRefused, InvalidSettings
from textcam_service.offline.banks.build import BankSettings, build_bank
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.runtime.backbone import Backbone
from torch import nn

SIDE, COUNT, WIDTH, CLASSES, NEAR = 48, 23, 12, 4, 4


class GraphConvolution(nn.Module):
    """Each vertex with the largest of its nearest neighbours' differences, as vision GNNs do."""

    def __init__(self, width):
        super().__init__()
        self.mix = nn.Linear(2 * width, width)

    def forward(self, x, positions):
        apart = (positions[:, :, None] - positions[:, None]).square().sum(-1)
        near = apart.topk(NEAR, dim=-1, largest=False).indices
        one_hot = nn.functional.one_hot(near, x.shape[1]).to(x.dtype)
        around = torch.matmul(one_hot, x[:, None])  # (N, V, NEAR, D)
        relative = (around - x[:, :, None]).amax(2)
        return torch.relu(self.mix(torch.cat([x, relative], -1)))


class Scattered(nn.Module):
    """Positions that depend on the image: an even grid, each vertex pulled by the picture there."""

    def __init__(self):
        super().__init__()
        self.pull = nn.Linear(3 * 16, 2 * COUNT)
        self.register_buffer("even", torch.rand(COUNT, 2) * (SIDE - 8) + 4)

    def forward(self, image):
        summary = nn.functional.adaptive_avg_pool2d(image, 4).flatten(1)
        moved = torch.tanh(self.pull(summary)).reshape(image.shape[0], COUNT, 2)
        return self.even + 3 * moved


class VisionGraph(nn.Module):
    """What the image shows at V positions, two graph convolutions, and a head."""

    class_names = tuple("abcd")
    preprocessing = Preprocessing(SIDE, SIDE, SIDE, "bilinear", (0.5,) * 3, (0.25,) * 3)

    def __init__(self, moving=False, linear=True):
        super().__init__()
        self.moving, self.linear = moving, linear
        self.stem = nn.Conv2d(3, WIDTH, 5, padding=2)
        self.places = Scattered() if moving else nn.Identity()
        self.register_buffer("fixed", torch.rand(COUNT, 2) * SIDE)
        self.vertex_positions = "places" if moving else self.fixed
        self.first, self.second = GraphConvolution(WIDTH), GraphConvolution(WIDTH)
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, image):
        maps = torch.tanh(self.stem(image))
        positions = self.places(image) if self.moving else self.fixed.expand(image.shape[0], -1, -1)
        centres = torch.arange(SIDE) + 0.5
        # A bilinear look at each position, as two products: grid_sample without its corner cases.
        columns = torch.relu(1 - (positions[:, :, :1] - centres).abs())
        rows = torch.relu(1 - (positions[:, :, 1:] - centres).abs())
        x = torch.einsum("nvh,ndhw,nvw->nvd", rows, maps, columns)
        x = self.second(self.first(x, positions), positions)
        return self.fc(x.mean(1) if self.linear else torch.logsumexp(3 * x, 1))


def fixed():
    return VisionGraph()


def moving():
    return VisionGraph(moving=True)


def curved():
    return VisionGraph(moving=True, linear=False)


@pytest.fixture(scope="module", autouse=True)
def importable():
    sys.modules["vision_graphs"] = sys.modules[__name__]
    yield
    del sys.modules["vision_graphs"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Each network, its backbone and what export reported, by its name."""
    made = {}
    for name in ("fixed", "moving", "curved"):
        network = load_network(f"import:vision_graphs:{name}")
        folder = tmp_path_factory.mktemp(name)
        made[name] = network, export_network(network, folder), Backbone(folder, threads=1)
    return made


def images(count=2):
    return np.random.default_rng(3).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)


def inputs_of(backbone, seen, image, class_index):
    weights = np.eye(CLASSES)[class_index]
    linear = backbone.head_weights if backbone.is_linear else None
    vertices = backbone.vertices(seen)
    return MethodInput(seen.activation_maps, seen.logits, weights, image, linear, (), vertices)


def answered(backbone, name, seen, image, class_index):
    inputs = inputs_of(backbone, seen, image, class_index)
    steps = METHODS[name].queries(inputs, MethodSettings(smooth_samples=2))
    return run_method(steps, lambda ask: backbone.query(ask, seen))


@pytest.mark.parametrize(("name", "kind"), [("fixed", GAP_LINEAR), ("curved", GRADIENT)])
def test_export_finds_the_last_layer_of_vertices_and_its_head(exported, name, kind):
    _, report, backbone = exported[name]
    assert (report.target_layer, report.head_kind) == ("second", kind)
    assert report.maps_shape == (WIDTH, COUNT, 1)
    assert backbone.manifest.vertices == backbone.manifest.cells == COUNT
    assert backbone.manifest.grid_shift == (0, 0)


@pytest.mark.parametrize("name", ["fixed", "moving", "curved"])
def test_maps_and_positions_are_torchs_own(exported, name):
    network, _, backbone = exported[name]
    given = images()
    kept = []
    hook = network.module.second.register_forward_hook(lambda _, a, out: kept.append((a[1], out)))
    logits = network.module(torch.tensor(given))
    hook.remove()
    positions, maps = kept[0]
    for index, seen in enumerate(backbone.forward(given)):
        np.testing.assert_allclose(seen.logits, logits[index], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(seen.activation_maps[..., 0], maps[index].T, atol=1e-5)
        np.testing.assert_allclose(seen.further[VERTEX_POSITIONS], positions[index], atol=1e-4)


@pytest.mark.parametrize("name", ["fixed", "moving"])
def test_with_a_linear_head_cam_is_grad_cam_vertex_by_vertex(exported, name):
    """Against torch's autograd over the network as it stands."""
    network, _, backbone = exported[name]
    (image,) = images(1)
    (seen,) = backbone.forward(image[None])
    kept = []
    hook = network.module.second.register_forward_hook(
        lambda _, __, out: kept.append(out.detach().requires_grad_()) or kept[-1]
    )
    network.module(torch.tensor(image[None]))[0, 2].backward()
    hook.remove()
    gradient = kept[0].grad[0].numpy()  # (V, D)
    grad_cam = COUNT * (gradient.mean(0) * kept[0].detach()[0].numpy()).sum(1)
    hires_cam = COUNT * (gradient * kept[0].detach()[0].numpy()).sum(1)
    for method, wanted in (("cam", grad_cam), ("grad_cam", grad_cam), ("hires_cam", hires_cam)):
        weights = answered(backbone, method, seen, image, 2).weights
        if weights.ndim == 1:
            weights = weights[:, None, None]
        found = (weights * seen.activation_maps).sum(0)[:, 0]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert grad_cam.mean() + backbone.head_bias[2] == pytest.approx(seen.logits[2], abs=1e-4)


def test_another_heads_gradient_is_torchs_vertex_by_vertex(exported):
    network, _, backbone = exported["curved"]
    (image,) = images(1)
    (seen,) = backbone.forward(image[None])
    x = torch.tensor(seen.activation_maps[..., 0].T[None]).requires_grad_()
    network.module.fc(torch.logsumexp(3 * x, 1))[0, 1].backward()
    found = backbone.gradients([seen], np.eye(CLASSES)[[1]])[0][..., 0]
    np.testing.assert_allclose(found.T, x.grad[0], rtol=1e-3, atol=1e-6)


WHATEVER_THE_HEAD = sorted(set(METHODS) - {"cam", "legrad", "integrative_cam"})


@pytest.mark.parametrize("method", WHATEVER_THE_HEAD)
@pytest.mark.parametrize("name", ["fixed", "curved"])
def test_every_method_that_the_head_answers_gives_vertices(exported, name, method):
    _, _, backbone = exported[name]
    (image,) = images(1)
    (seen,) = backbone.forward(image[None])
    terms = answered(backbone, method, seen, image, 0)
    assert np.isfinite(terms.weights).all()
    assert terms.weights.any()
    assert terms.weights.shape in {(WIDTH,), (WIDTH, COUNT, 1)}
    if terms.saliency_map is not None:
        assert terms.saliency_map.shape == (COUNT, 1)


def test_score_cam_hides_what_lies_far_from_the_vertices(exported):
    """Each channel's mask is its map as it is placed over the image, by hand."""
    network, _, backbone = exported["fixed"]
    (image,) = images(1)
    (seen,) = backbone.forward(image[None])
    grid = backbone.vertices(seen).place(seen.activation_maps)
    grid = torch.tensor(grid[None])
    (stretched,) = nn.functional.interpolate(grid, (SIDE, SIDE), mode="bilinear")
    low, high = stretched.amin((1, 2), keepdim=True), stretched.amax((1, 2), keepdim=True)
    masks = torch.where(high > low, (stretched - low) / (high - low).clamp(min=1e-9), 0)
    scores = network.module(masks[:, None] * torch.tensor(image))[:, 3]
    wanted = torch.softmax(scores.double(), 0)
    found = answered(backbone, "score_cam", seen, image, 3).weights
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_a_hot_vertex_lights_up_at_its_own_position():
    positions = np.random.default_rng(1).uniform(0, [90, 60], (COUNT, 2))
    vertices = Vertices(positions, 60, 90)
    for hot in range(COUNT):
        one = np.zeros((COUNT, 1))
        one[hot] = 2
        drawn = vertices.place(one)
        row, column = np.unravel_index(drawn.argmax(), drawn.shape)
        x = (column + 0.5) * 90 / drawn.shape[1]
        y = (row + 0.5) * 60 / drawn.shape[0]
        assert abs(x - positions[hot, 0]) <= 90 / drawn.shape[1]
        assert abs(y - positions[hot, 1]) <= 60 / drawn.shape[0]
        assert 0 <= drawn.min() <= drawn.max() <= 2


def test_placing_is_exact_at_vertices_and_keeps_sums():
    """On a grid of their own cells' centres vertices keep their values, whatever the others are."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[0:4, 0:4]
    # 16 vertices are drawn on 16 x 16 cells: each of these is the centre of one.
    positions = np.stack([x.ravel() * 4 + 1.5, y.ravel() * 4 + 2.5], 1)
    vertices = Vertices(positions, 16, 16)
    maps = rng.normal(size=(2, 16, 1))
    drawn = vertices.place(maps)
    assert drawn.shape == (2, 16, 16)
    np.testing.assert_allclose(drawn[:, 2::4, 1::4].reshape(2, 16), maps[..., 0], atol=1e-4)
    np.testing.assert_allclose(vertices.place(maps.sum(0)), drawn.sum(0), atol=1e-5)
    # By hand: two vertices 1 and 3 pixels away count 9 to 1.
    pair = Vertices(np.array([[0.5, 0.5], [4.5, 0.5]]), 1, 8)
    assert pair.place(np.array([[1.0], [0.0]]))[0, 1] == pytest.approx(0.9)


def test_many_vertices_are_placed_in_little_memory():
    vertices = Vertices(np.random.default_rng(3).uniform(0, 224, (784, 2)), 224, 224)
    maps = np.random.default_rng(4).standard_normal((2, 784, 1))
    tracemalloc.start()
    drawn = vertices.place(maps)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6  # the weights alone, as float32, would take 39 MB
    for row, column in ((0, 0), (50, 111), (111, 7)):
        away = vertices.positions - np.array([column + 0.5, row + 0.5]) * 2
        weights = 1 / (away**2).sum(axis=1)
        wanted = maps[..., 0] @ weights / weights.sum()
        np.testing.assert_allclose(drawn[:, row, column], wanted, atol=1e-6)


@pytest.mark.parametrize(
    "stated",
    ["nowhere", "fc", torch.rand(COUNT, 3), torch.full((COUNT, 2), SIDE + 1.0), torch.rand(1, 2)],
)
def test_positions_that_are_none_are_refused(tmp_path, stated):
    network = load_network("import:vision_graphs:fixed")
    network.module.vertex_positions = stated
    with pytest.raises(ExportRefused, match="vertex_positions"):
        export_network(type(network)(**{**vars(network), "vertex_positions": stated}), tmp_path)


@pytest.fixture(scope="module")
def served(exported, tmp_path_factory):
    """A server of the network whose vertices move, with a small bank of its own."""
    folder = tmp_path_factory.mktemp("served")
    rng = np.random.default_rng(5)
    pictures = []
    for index in range(24):
        pictures.append(folder / f"{index}.png")
        pixels = rng.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((96, 64), Image.Resampling.NEAREST).save(pictures[-1])
    backbone = exported["moving"][2]
    words = ["red cube", "blue sphere", "green cylinder", "metal cube"]
    settings = BankSettings(ChannelSettings(samples=6))
    build_bank(backbone, load_embedder("scenes"), pictures, words, folder / "bank", settings)
    flags = ("--backbone", str(backbone.folder), "--bank", str(folder / "bank"))
    with running(*flags) as server, Client(server.address) as client:
        yield client, pictures


@pytest.mark.parametrize("method", ["cam", "vs_cam", "score_cam"])
def test_an_answers_heatmap_is_the_vertices_own_over_the_image(exported, served, method):
    """Of a wide image only the middle square is seen: its vertices lie there, not at the sides."""
    client, pictures = served
    network, _, backbone = exported["moving"]
    answer = client.explain(pictures[0], method=method)
    explanation = answer.explanations[0]
    picture = Image.open(pictures[0]).crop((16, 0, 80, 64)).resize((SIDE, SIDE), Image.BILINEAR)
    image = normalize(np.asarray(picture), network.preprocessing)
    (seen,) = backbone.forward(image[None])
    terms = answered(backbone, method, seen, image, explanation.target.class_index)
    weights = terms.weights if terms.weights.ndim == 3 else terms.weights[:, None, None]
    vertices = backbone.vertices(seen)
    wanted = vertices.place((weights * seen.activation_maps).sum(0))
    np.testing.assert_allclose(explanation.saliency_map, wanted, rtol=1e-2, atol=1e-3)
    parts = [*explanation.groups, explanation.rest]
    total = sum(part.saliency_map for part in parts)
    np.testing.assert_allclose(explanation.saliency_map, total, rtol=1e-2, atol=1e-3)
    hottest = vertices.positions[(weights * seen.activation_maps).sum(0)[:, 0].argmax()]
    heat = explanation.heatmap()
    assert heat.shape == (64, 96)
    assert not heat[:, :16].any()
    assert not heat[:, 80:].any()
    x, y = 16 + hottest[0] * 64 / SIDE, hottest[1] * 64 / SIDE
    if wanted.max() > 0:
        assert heat[min(int(y), 63), min(int(x), 79)] > 0.5


def test_regions_need_a_grid(exported, tmp_path):
    settings = BankSettings(ChannelSettings(samples=2, regions=RegionSettings("crop")))
    words, nothing = ["red cube", "blue cube"], tmp_path / "bank"
    embedder = load_embedder("scenes")
    pictures = []
    for index in range(6):
        pictures.append(tmp_path / f"{index}.png")
        Image.fromarray(np.full((SIDE, SIDE, 3), 40 * index, np.uint8)).save(pictures[-1])
    with pytest.raises(InvalidSettings, match="grid"):
        build_bank(exported["fixed"][2], embedder, pictures, words, nothing, settings)
