"""The evaluation's figures against quantus 0.6.0, grad-cam 1.5.7 and scikit-learn.

The same rendered scenes and heatmaps for both. Peers that need a network get the torch module;
the product runs its ONNX export.
"""

import numpy as np
import pytest
import quantus
import torch
from PIL import ImageFilter
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence
from scipy.stats import bootstrap, rankdata
from skimage.morphology import dilation, disk
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, jaccard_score
from textcam_service.artefacts.bank import BankArtefact, ConceptBank, Vocabulary
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.evaluation.cases import explain_case, observe, scene_truth
from textcam_service.offline.evaluation.faithfulness import perturbation, randomisation
from textcam_service.offline.evaluation.localization import (
    TOLERANCE,
    centered_gaussian,
    heat_of,
    judge_groups,
    judge_localization,
    objects_with,
)
from textcam_service.offline.evaluation.phrases import (
    PHRASES,
    Judged,
    SaidPhrase,
    phrase_intervals,
    phrase_metrics,
    phrase_reliability,
)
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.runtime.backbone import Backbone
from textcam_service.scenes.world import vocabulary
from torch import nn

SCENES, PERTURBED = 60, 40
STEPS, BLUR = 16, 8  # of the product's perturbation, as its documentation and code state them
SIZE = 96
QUIET = {"abs": False, "normalise": False, "disable_warnings": True}


class PixelNet(nn.Module):
    """The scenes' classifier on pictures less `nought`: (N, 3, 96, 96) from 0..255 -> (N, 10)."""

    def __init__(self, network, nought=0.0):
        super().__init__()
        self.network, self.nought = network.eval(), nought
        self.eval()

    def forward(self, pixels):
        pixels = pixels + self.nought
        # The product truncates to the bytes of a picture; what rounding left just under a whole
        # number is that number.
        return self.network(((pixels + 1e-4).clamp(0, 255).floor() / 255 - 0.5) / 0.25)


class DrawnHead(nn.Linear):
    """A head whose random parameters are the product's: normal, of its own mean and spread."""

    def reset_parameters(self):
        rng = np.random.default_rng(0)
        for values in (self.weight.data, self.bias.data):
            own = values.numpy()
            drawn = rng.normal(own.mean(), own.std(), own.shape)
            values.copy_(torch.from_numpy(drawn.astype(np.float32)))


@pytest.fixture(scope="module")
def network():
    return load_network("scenes:classifier").module


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(bundle, observations); no figure here depends on the bank being good, so it is random."""
    folder = tmp_path_factory.mktemp("metrics") / "backbone"
    export_network(load_network("scenes:classifier"), folder)
    backbone = Backbone(folder, threads=1)
    rng = np.random.default_rng(0)
    channels, phrases = backbone.manifest.channel_count, vocabulary()
    drawn = rng.standard_normal((channels + len(phrases) + 1, 16)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    bank = ConceptBank(
        drawn[:channels], np.zeros(channels, bool), drawn[-1], backbone.fingerprint(), "", "e", {}
    )
    artefact = BankArtefact(bank, Vocabulary(phrases, drawn[channels:-1], "e"), "", "")
    bundle = ModelBundle("scenes", "1", backbone, artefact)
    seen = observe(bundle, scene_truth(SCENES).cases)
    return bundle, [o for o in seen if o.prediction.class_index == o.case.class_index]


@pytest.fixture(params=["product", "gaussian"])
def heat(request, world):
    return heat_of(world[0]) if request.param == "product" else centered_gaussian


def pixels_of(observation):
    return np.asarray(observation.case.image, np.float32).transpose(2, 0, 1)


def classes_of(seen):
    return np.array([o.prediction.class_index for o in seen])


def localise(metric, seen, heats, masks):
    """A localisation metric of quantus, one figure per image."""
    found = metric(
        model=None,
        x_batch=np.stack([pixels_of(o) for o in seen]),
        y_batch=classes_of(seen),
        a_batch=np.stack(heats)[:, None],
        s_batch=np.stack(masks)[:, None],
    )
    return np.asarray(found, float)


def within_tolerance(mask):
    return dilation(mask, disk(TOLERANCE)).astype(bool)


def test_pointing_is_the_pointing_game_on_masks_grown_by_the_tolerance(world, heat):
    """The product allows a miss of TOLERANCE pixels; quantus gets masks dilated by that disk."""
    seen = world[1]
    mine = [judge_localization([o], heat).pointing for o in seen]
    masks = [within_tolerance(o.case.key_mask) for o in seen]
    theirs = localise(quantus.PointingGame(**QUIET), seen, [heat(o) for o in seen], masks)
    np.testing.assert_array_equal(mine, theirs)
    assert set(mine) == {0.0, 1.0}
    assert judge_localization(seen, heat).pointing == pytest.approx(theirs.mean())


@pytest.mark.parametrize("shown", ["group", "relative", "whole"])
def test_groups_point_as_the_pointing_game_says(world, shown):
    """A group is right on any object of which its phrase is true: the mask is their union."""
    bundle, seen = world
    owners, heats, masks = [], [], []
    for o in seen:
        rationale = explain_case(bundle, o, PHRASES)
        for phrase, group in zip(rationale.phrases, rationale.groups, strict=True):
            having = objects_with(o.case.scene, phrase.text)
            if having and group.evidence > 0:
                maps = {
                    "group": group.saliency_map,
                    "relative": group.relative_map,
                    "whole": rationale.saliency_map,
                }
                owners.append(o)
                heats.append(enlarged(maps[shown], bundle.backbone.manifest.grid_shift))
                masks.append(within_tolerance(o.case.masks[having].any(axis=0)))
    theirs = localise(quantus.PointingGame(**QUIET), owners, heats, masks)
    mine = judge_groups(bundle, seen, shown)
    assert mine["groups"] == len(owners) >= 20
    assert 0 < mine["pointing"] < 1
    assert mine["pointing"] == pytest.approx(theirs.mean(), abs=1e-9)


def enlarged(saliency_map, shift):
    """A map's positive part on the picture's pixels, by torch; cells lie shifted by `shift`."""
    at = (torch.arange(SIZE) + 0.5)[None] - torch.tensor(shift)[:, None]
    across, down = at / SIZE * 2 - 1
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)[None].double()
    maps = torch.from_numpy(saliency_map.astype(np.float64)).clamp(min=0)[None, None]
    sampled = nn.functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return sampled[0, 0].numpy()


def test_the_heatmap_is_torchs_bilinear_enlargement(world):
    """So that what is judged, and not only how, has been checked."""
    bundle, seen = world
    for o in seen[:5]:
        own = explain_case(bundle, o, 1).saliency_map
        peer = enlarged(own, bundle.backbone.manifest.grid_shift)
        np.testing.assert_allclose(heat_of(bundle)(o), peer / own.max(), atol=1e-5)


def test_energy_is_relevance_mass_accuracy(world, heat):
    seen = world[1]
    mine = [judge_localization([o], heat).energy for o in seen]
    masks = [o.case.key_mask for o in seen]
    theirs = localise(quantus.RelevanceMassAccuracy(**QUIET), seen, [heat(o) for o in seen], masks)
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    assert judge_localization(seen, heat).energy == pytest.approx(theirs.mean(), rel=1e-5)


def test_overlap_is_the_jaccard_index_and_top_k_intersection_restated(world, heat):
    """quantus has no IoU, but its top-k intersection t gives it: k t / (k + |mask| - k t).

    k is the number of pixels at or over half of the maximum, another one in every image.
    """
    seen = world[1]
    table = []
    for o in seen:
        own, mask = heat(o).astype(np.float64), o.case.key_mask
        cuts = [own >= share * own.max() for share in np.linspace(0.05, 0.95, 19)]
        table.append([jaccard_score(mask.ravel(), cut.ravel()) for cut in cuts])
        cut = own >= 0.5 * own.max()
        metric = quantus.TopKIntersection(k=int(cut.sum()), **QUIET)
        both = cut.sum() * localise(metric, [o], [heat(o)], [mask])[0]
        fixed = judge_localization([o], heat).iou_fixed
        assert fixed == pytest.approx(both / (cut.sum() + mask.sum() - both), abs=1e-9)
        assert fixed == pytest.approx(jaccard_score(mask.ravel(), cut.ravel()), abs=1e-9)
    mine = judge_localization(seen, heat)
    # One threshold for all images, not each image's own best.
    assert mine.iou_best == pytest.approx(np.mean(table, axis=0).max(), abs=1e-9)
    assert mine.iou_best < np.max(table, axis=1).mean()


def without_ties(heat):
    """A heat in the same order, ties broken: quantus has its own way with ties, as we have."""
    rng = np.random.default_rng(1)

    def broken(observation):
        own = heat(observation)
        order = np.lexsort((rng.random(own.size), own.ravel()))
        return (rankdata(order.argsort()) / own.size).reshape(own.shape).astype(np.float32)

    return broken


def flipped(network, seen, heats, starts, replacements):
    """Areas under quantus's pixel-flipping curves, with the unperturbed picture as first point.

    Its features are single colour values, ours whole pixels: three of its steps are one of ours.
    """
    others = replacements.reshape(len(seen), -1)

    def replace(arr, indices, **_):
        arr = arr.copy()
        np.put_along_axis(arr, indices, np.take_along_axis(others, indices, axis=1), axis=1)
        return arr

    flip = quantus.PixelFlipping(SIZE * SIZE // STEPS, perturb_func=replace, **QUIET)
    net, classes = PixelNet(network), classes_of(seen)
    curves = flip(
        model=net, x_batch=starts.copy(), y_batch=classes, a_batch=heats[:, None], softmax=True
    )
    with torch.no_grad():
        first = net(torch.from_numpy(starts)).softmax(1).numpy()[np.arange(len(seen)), classes]
    shares = np.linspace(0, 1, STEPS + 1)
    return [auc(shares, [p, *curve[2::3]]) for p, curve in zip(first, curves, strict=True)]


def test_deletion_and_insertion_are_pixel_flipping(world, network, heat):
    """Baselines are ours: the picture's mean colour, and from its blurred self to the picture."""
    bundle, seen = world[0], world[1][:5]
    heats = np.stack(list(map(without_ties(heat), seen)))
    pictures = np.stack([pixels_of(o) for o in seen])
    grey = np.broadcast_to(pictures.mean((2, 3), keepdims=True), pictures.shape)
    soft = [np.asarray(o.case.image.filter(ImageFilter.GaussianBlur(BLUR))) for o in seen]
    soft = np.stack(soft).transpose(0, 3, 1, 2).astype(np.float32)
    each = [perturbation(bundle, [o], lambda _, h=h: h) for o, h in zip(seen, heats, strict=True)]

    deletion = [figures["deletion_auc"] for figures in each]
    np.testing.assert_allclose(deletion, flipped(network, seen, heats, pictures, grey), atol=1e-4)
    insertion = [figures["insertion_auc"] for figures in each]
    np.testing.assert_allclose(insertion, flipped(network, seen, heats, soft, pictures), atol=1e-4)
    assert np.ptp(deletion) > 0.01  # the pictures differ by far more than that


def test_drop_and_increase_are_grad_cams(world, network, heat):
    """grad-cam multiplies the input by the map, and its input's nought is black: ours is grey.

    So it gets pictures less their mean colour. Its drop is a difference, ours (Chattopadhay et
    al. 2018, "average drop") a share of the probability: the target divides by it.
    """
    bundle, seen = world
    seen = seen[:PERTURBED]
    theirs = []
    for o in seen:
        picture = pixels_of(o)
        mean = torch.from_numpy(picture.mean((1, 2), keepdims=True))
        before, index = o.prediction.probability, o.prediction.class_index
        arguments = {
            "input_tensor": torch.from_numpy(picture)[None] - mean,
            "cams": heat(o)[None],
            "targets": [lambda out, i=index, b=before: out.softmax(-1)[i] / b],
            "model": PixelNet(network, mean),
        }
        theirs.append([DropInConfidence()(**arguments)[0], IncreaseInConfidence()(**arguments)[0]])
    each = [perturbation(bundle, [o], heat) for o in seen]
    # A blend that ends on a whole number may be truncated to either side of it.
    np.testing.assert_allclose([e["average_drop"] for e in each], np.array(theirs)[:, 0], atol=1e-3)
    assert [e["increase"] for e in each] == np.array(theirs)[:, 1].tolist()
    assert 0 < np.mean(theirs, axis=0)[1] < 1
    several = perturbation(bundle, seen[:4], heat)
    assert several["average_drop"] == pytest.approx(np.mean(theirs[:4], axis=0)[0], abs=1e-3)


def random_rows(count):
    """Lists of phrases with probabilities, about as often right as they say, of some images."""
    rng, rows = np.random.default_rng(3), []
    for _ in range(count):
        chances = rng.random(rng.integers(0, 5))
        names = [f"p{place}" for place in range(len(chances))]
        right = {name for name, chance in zip(names, chances, strict=True) if rng.random() < chance}
        phrases = [SaidPhrase(n, 1.0, float(c)) for n, c in zip(names, chances, strict=True)]
        rows.append(Judged(tuple(phrases), frozenset(right)))
    return rows


def test_calibration_error_is_scikit_learns_curve_weighed_by_counts():
    rows = random_rows(400)
    chances = np.array([phrase.probability for row in rows for phrase in row.said])
    marks = np.concatenate([row.marks() for row in rows])
    true, given = calibration_curve(marks, chances, n_bins=10)
    table = list(phrase_reliability(rows).values())
    np.testing.assert_allclose([row["observed"] for row in table], true)
    np.testing.assert_allclose([row["probability"] for row in table], given)
    counts = np.histogram(chances, np.linspace(0, 1, 11))[0]
    error = (np.abs(true - given) * counts).sum() / counts.sum()
    assert phrase_metrics(rows).ece == pytest.approx(error)


def test_intervals_are_scipys_percentile_bootstrap_over_images():
    rows = random_rows(400)
    low, high = phrase_intervals(rows)
    hits = np.array([row.marks().sum() for row in rows])
    counts = np.array([len(row.said) for row in rows])

    def precision(hit, count, axis=-1):
        return hit.sum(axis) / count.sum(axis)

    options = {"paired": True, "method": "percentile", "n_resamples": 4000, "rng": 1}
    theirs = bootstrap((hits, counts), precision, vectorized=True, **options).confidence_interval
    assert (low.precision, high.precision) == pytest.approx(tuple(theirs), abs=0.004)
    lengths = bootstrap((counts,), np.mean, **{**options, "paired": False}).confidence_interval
    assert (low.phrases, high.phrases) == pytest.approx(tuple(lengths), abs=0.015)


def cams(model, inputs, targets, **_):
    """Signed CAMs by torch, each cell 8 x 8 pixels, which leaves rank correlations as they are."""
    net = model.network
    with torch.no_grad():
        scaled = (torch.from_numpy(np.asarray(inputs, np.float32)) / 255 - 0.5) / 0.25
        maps = net.blocks(net.stem(scaled))
        weighted = torch.einsum("nd,ndhw->nhw", net.head.weight[list(targets)], maps)
    return np.kron(weighted.numpy(), np.ones((1, 8, 8)))[:, None]


def test_randomising_the_head_is_the_parameter_randomisation_test(world):
    """quantus resets modules from the top; its first is the head, which here draws as ours does.

    Deeper levels are not compared: it resets module by module of a torch network, we the last
    half or all of the kernels of an ONNX graph, into which batch norm has been folded.
    """
    bundle, seen = world
    seen = seen[:10]
    network = load_network("scenes:classifier").module
    network.head.__class__ = DrawnHead  # trained weights and all
    scores = quantus.MPRT(layer_order="top_down", **QUIET)(
        model=PixelNet(network),
        x_batch=np.stack([pixels_of(o) for o in seen]),
        y_batch=classes_of(seen),
        explain_func=cams,
    )
    theirs = np.array(scores["network.head"])
    mine = randomisation(bundle, seen)
    assert min(scores["original"]) == pytest.approx(1)
    assert mine["head"]["map"] == pytest.approx(theirs.mean(), abs=1e-3)
    assert mine["head"]["map_absolute"] == pytest.approx(np.abs(theirs).mean(), abs=1e-3)
    assert theirs.min() < 0 < theirs.max()
