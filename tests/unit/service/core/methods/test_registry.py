"""CAM methods on networks so small that their maps can be computed by hand."""

import re

import numpy as np
import pytest
from textcam_service.core.cam import activation_scores
from textcam_service.core.interpolation import resample
from textcam_service.core.methods import (
    METHODS,
    AttentionGradients,
    Gradient,
    HeadPasses,
    ImagePasses,
    LayerGradients,
    MethodInput,
    MethodSettings,
    run_method,
)
from textcam_service.core.methods.arrays import blur, masks, reproducing_weights
from textcam_service.core.probability import softmax

NAMES = (
    "cam",
    "grad_cam",
    "grad_cam_plus_plus",
    "xgrad_cam",
    "hires_cam",
    "layer_cam",
    "eigen_cam",
    "eigen_grad_cam",
    "score_cam",
    "ss_cam",
    "ablation_cam",
    "recipro_cam",
    "finer_cam",
    "decom_cam",
    "integrative_cam",
    "vs_cam",
    "legrad",
)
SETTINGS = MethodSettings(chunk=5, smooth_samples=3, smooth_sigma=0.5)


class Tiny:
    """A network of arrays: an image to maps (or any maps given), maps to logits.

    The head is GAP + linear, or a tanh of all cells under a linear layer. The image's logits are
    those of a tanh of its pixels: masked images need no maps.
    """

    def __init__(self, linear=False, channels=20, cells=(3, 4), classes=4, seed=0, maps=None):
        random = np.random.default_rng(seed)
        self.linear = linear
        if maps is None:
            maps = np.maximum(random.standard_normal((channels, *cells)), 0)
        self.maps = np.asarray(maps, np.float32)
        size = self.maps.size
        self.head = random.standard_normal((classes, len(self.maps))).astype(np.float32)
        self.bias = random.standard_normal(classes)
        self.mixing = random.standard_normal((6, size)) / np.sqrt(size)
        self.readout = random.standard_normal((classes, 6))
        self.image = random.standard_normal((3, 9, 8)).astype(np.float32)
        self.seeing = random.standard_normal((6, self.image.size)) / np.sqrt(self.image.size)
        self.layers = tuple(
            np.maximum(random.standard_normal(shape), 0).astype(np.float32)
            for shape in ((5, 6, 8), (7, 3, 4))
        )
        self.layer_slopes = [random.standard_normal((classes, *a.shape)) for a in self.layers]
        self.attention = random.standard_normal((classes, 2, *self.maps.shape[1:]))
        # The first class's score of everything may be a contrast of others: see contrasted().
        self.change = np.eye(classes)
        self.asks = []

    def contrasted(self, class_weights):
        """The same network, whose class 0 scores what the class weights say."""
        other = Tiny.__new__(Tiny)
        other.__dict__ = {**self.__dict__, "asks": []}
        other.change = np.array(self.change)
        other.change[0] = class_weights
        return other

    def logits(self, maps):
        if self.linear:
            raw = activation_scores(maps) @ self.head.T + self.bias
        else:
            raw = np.tanh(maps.reshape(len(maps), -1) @ self.mixing.T) @ self.readout.T
        return (raw @ self.change.T).astype(np.float32)

    def gradient(self, class_weights):
        raw_weights = class_weights @ self.change
        if self.linear:
            row = raw_weights @ self.head / self.maps[0].size
            return np.broadcast_to(row[:, None, None], self.maps.shape).astype(np.float32)
        slope = 1 - np.tanh(self.mixing @ self.maps.ravel()) ** 2
        flat = (raw_weights @ self.readout * slope) @ self.mixing
        return flat.reshape(self.maps.shape).astype(np.float32)

    def subject(self, class_index=0, class_weights=None):
        weights = np.eye(len(self.bias))[class_index] if class_weights is None else class_weights
        return MethodInput(
            activation_maps=self.maps,
            logits=self.logits(self.maps[None])[0],
            class_weights=np.asarray(weights, np.float64),
            image=self.image,
            head_weights=(self.change @ self.head).astype(np.float32) if self.linear else None,
            layers=self.layers,
        )

    def answer(self, ask):
        self.asks.append(ask)
        match ask:
            case Gradient():
                return self.gradient(ask.class_weights)
            case HeadPasses():
                return self.logits(ask.activation_maps)
            case ImagePasses():
                seen = np.tanh(ask.images.reshape(len(ask.images), -1) @ self.seeing.T)
                return (3 * seen @ self.readout.T @ self.change.T).astype(np.float32)
            case LayerGradients():
                raw = ask.class_weights @ self.change
                return [
                    np.tensordot(raw, s, 1).astype(np.float32) / s[0, 0].size
                    for s in self.layer_slopes
                ]
            case AttentionGradients():
                raw = ask.class_weights @ self.change
                return np.maximum(np.tensordot(raw, self.attention, 1), 0).astype(np.float32)
        raise AssertionError(ask)

    def explain(self, name, subject=None, settings=SETTINGS):
        return run_method(METHODS[name].queries(subject or self.subject(), settings), self.answer)

    def passes(self, kind):
        return [
            len(ask.images if kind is ImagePasses else ask.activation_maps)
            for ask in self.asks
            if isinstance(ask, kind)
        ]


def explained_by(maps, gradient, name, **given):
    """The method's terms for maps and their gradient alone."""
    maps = np.asarray(maps, np.float32)
    subject = MethodInput(maps, np.zeros(2, np.float32), np.array([1.0, 0]), np.zeros((3, 4, 4)))
    settings = MethodSettings(**given)
    return run_method(
        METHODS[name].queries(subject, settings), lambda _: np.asarray(gradient, np.float32)
    )


def spatial(weights):
    return weights if weights.ndim == 3 else weights[:, None, None]


def whole_map(terms, maps):
    if terms.saliency_map is not None:
        return terms.saliency_map
    return (spatial(terms.weights) * maps).sum(axis=0)


A = np.array([[[1.0, 1], [0, 2]], [[3, 0], [0, 1]]])
G = np.array([[[0.5, 0], [-1, 0.25]], [[0.1, 0.2], [0.3, -0.6]]])


OTHERS = tuple(name for name in NAMES if name != "cam")
# Each method under each head that it knows: (name, linear).
HEADS = [*((name, True) for name in NAMES), *((name, False) for name in OTHERS)]


def test_all_methods_are_listed_in_order_by_their_names():
    assert tuple(METHODS) == NAMES
    assert all(method.name == name for name, method in METHODS.items())


@pytest.mark.parametrize("name", NAMES)
def test_each_method_names_its_source_and_its_cost(name):
    text = METHODS[name].algorithm.__doc__
    assert re.search(r"arXiv \d{4}\.\d{5}|IEEE TIP|WACV|grad-cam", text)
    assert re.search(r"pass|VJP", text)


# Values by hand


def test_grad_cam_takes_the_mean_slope():
    weights = explained_by(A, G, "grad_cam").weights
    np.testing.assert_allclose(weights, [-0.25, 0], atol=1e-7)


def test_grad_cam_plus_plus_weighs_positive_slopes_by_alpha():
    """Channel 0: sum(A) = 4, so alpha is 1 / (2 + 4 * 0.5) and 1 / (2 + 4 * 0.25)."""
    weights = explained_by(A, G, "grad_cam_plus_plus").weights
    second = 0.1 / 2.4 + 0.2 / 2.8 + 0.3 / 3.2
    np.testing.assert_allclose(weights, [0.5 / 4 + 0.25 / 3, second], rtol=1e-6)


def test_grad_cam_plus_plus_survives_slopes_whose_square_underflows():
    weights = explained_by(A, 1e-30 * G, "grad_cam_plus_plus").weights
    np.testing.assert_allclose(weights, [0.375e-30, 0.3e-30], rtol=1e-6)


def test_xgrad_cam_weighs_slopes_by_activation():
    """(0.5 + 0.5) / 4 and (0.3 - 0.6) / 4, times the 4 positions; a dead channel has 0."""
    maps, gradient = np.concatenate([A, 0 * A[:1]]), np.concatenate([G, G[:1]])
    weights = explained_by(maps, gradient, "xgrad_cam").weights
    np.testing.assert_allclose(weights, [1.0, -0.3, 0], rtol=1e-6)


def test_hires_cam_and_layer_cam_keep_positions():
    np.testing.assert_allclose(explained_by(A, G, "hires_cam").weights, 4 * G, rtol=1e-6)
    layer = explained_by(A, G, "layer_cam").weights
    np.testing.assert_allclose(layer, [[[2, 0], [0, 1]], [[0.4, 0.8], [1.2, 0]]], rtol=1e-6)


def test_vs_cam_multiplies_the_classes_probes_by_the_vertices_base():
    """Base (4, 1, 0, 3) / 4; probes -0.25 A_0 and 0 A_1."""
    weights = explained_by(A, G, "vs_cam").weights
    np.testing.assert_allclose(weights[0], [[-0.25, -0.0625], [0, -0.1875]], rtol=1e-6)
    np.testing.assert_allclose(weights[1], 0, atol=1e-7)


# Principal components


@pytest.mark.parametrize("sign", [1, -1])
def test_eigen_cam_is_positive_where_activations_are_strong(sign):
    """Maps u and 2 u: the component is sqrt(5) (u - mean u), whatever the activations' sign."""
    shape = np.array([[0.0, 1], [0, 3]])
    terms = explained_by(sign * np.stack([shape, 2 * shape]), None, "eigen_cam")
    np.testing.assert_allclose(terms.saliency_map, np.sqrt(5) * (shape - 1), rtol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_eigen_grad_cam_is_positive_where_the_score_rises(sign):
    """g A is u where the slope is 1 and -u where it is -1."""
    shape = np.array([[0.0, 1], [0, 3]])
    terms = explained_by([shape, shape], sign * np.ones((2, 2, 2)), "eigen_grad_cam")
    np.testing.assert_allclose(terms.saliency_map, sign * 4 * np.sqrt(2) * (shape - 1), rtol=1e-6)


@pytest.mark.parametrize("name", ["eigen_cam", "eigen_grad_cam", "decom_cam"])
@pytest.mark.parametrize("channels", [8, 20])
def test_the_decompositions_whim_does_not_turn_a_map_over(name, channels, monkeypatch):
    """Fewer channels than positions, and more."""
    network = Tiny(channels=channels)
    before = whole_map(network.explain(name), network.maps)
    eigh = np.linalg.eigh

    def turned(matrix):
        values, vectors = eigh(matrix)
        return values, -vectors

    monkeypatch.setattr(np.linalg, "eigh", turned)
    after = whole_map(network.explain(name), network.maps)
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert np.ptp(before) > 0.1


@pytest.mark.parametrize("channels", [8, 20])
def test_components_are_those_of_the_singular_value_decomposition(channels):
    network = Tiny(channels=channels)
    flat = network.maps.reshape(channels, -1).astype(np.float64)
    centred = flat - flat.mean(axis=1, keepdims=True)
    expected = np.linalg.svd(centred)[0][:, 0] @ centred
    found = network.explain("eigen_cam").saliency_map.ravel()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-4, atol=1e-5)


def test_decom_cam_adds_sub_maps_by_what_they_show():
    """Step by step, with the plain decomposition, 3 sub-maps of the 9 steepest channels."""
    network, settings = Tiny(seed=3), MethodSettings(decom_channels=9, decom_maps=3)
    subject = network.subject()
    gradient = network.gradient(subject.class_weights).astype(np.float64)
    chosen = np.argsort(gradient.sum(axis=(1, 2)))[-9:]
    terms = (gradient * network.maps)[chosen].reshape(9, -1) * 12
    centred = terms - terms.mean(axis=1, keepdims=True)
    components = np.linalg.svd(centred)[0][:, :3].T @ centred
    components *= np.sign(components @ terms.sum(axis=0))[:, None]
    reference = blur(subject.image, 1 / 16)

    def score(image):
        return subject.score(network.answer(ImagePasses(image[None].astype(np.float32))))[0]

    expected = 0
    for component in components.reshape(3, 3, 4):
        mask = resample(component, *subject.image.shape[1:])
        mask = (mask - mask.min()) / np.ptp(mask)
        shown = score(subject.image * mask + reference * (1 - mask)) - score(reference)
        expected = expected + shown * component / np.ptp(component)
    found = network.explain("decom_cam", settings=settings)
    np.testing.assert_allclose(found.saliency_map, expected, atol=1e-4)
    assert np.ptp(expected) > 0.1


# Perturbations


def test_score_cam_is_the_softmax_of_masked_scores():
    """Maps as large as the image, so that masks are the maps scaled to 0..1."""
    network = Tiny()
    network.maps = np.random.default_rng(1).random((4, 9, 8)).astype(np.float32)
    subject = MethodInput(network.maps, np.zeros(4), np.array([0, 1.0, -0.5, 0]), network.image)
    scaled = [(a - a.min()) / (a.max() - a.min()) for a in network.maps]
    images = np.stack([network.image * mask for mask in scaled])
    expected = softmax(subject.score(network.answer(ImagePasses(images))))
    found = network.explain("score_cam", subject).weights
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(found) > 0.05


@pytest.mark.parametrize(("name", "samples"), [("score_cam", 1), ("ss_cam", 3)])
def test_channels_that_never_vary_share_one_pass(name, samples):
    """Their masks are black: 20 channels, 4 of them dead, one of these not at 0."""
    network = Tiny()
    network.maps[[2, 5, 11]] = 0
    network.maps[17] = 0.7
    weights = network.explain(name).weights
    assert sum(network.passes(ImagePasses)) == 17 * samples
    assert len(set(weights[[2, 5, 11, 17]])) == 1
    alive = network.explain(name, settings=MethodSettings(chunk=1, smooth_samples=3)).weights
    assert len(set(alive)) == 17


def test_ss_cam_depends_on_its_seed_alone():
    def weights(seed, chunk):
        settings = MethodSettings(seed=seed, chunk=chunk, smooth_samples=3)
        return Tiny().explain("ss_cam", settings=settings).weights

    np.testing.assert_array_equal(weights(1, 5), weights(1, 5))
    np.testing.assert_allclose(weights(1, 5), weights(1, 7), rtol=1e-5)
    assert np.abs(weights(1, 5) - weights(2, 5)).max() > 1e-3


def test_ss_cam_without_noise_is_score_cam():
    quiet = MethodSettings(smooth_sigma=0, smooth_samples=2)
    np.testing.assert_allclose(
        Tiny().explain("ss_cam", settings=quiet).weights, Tiny().explain("score_cam").weights
    )


def test_ablation_cam_is_the_drop_of_the_score():
    network = Tiny(seed=4)
    network.maps[6] = 0
    subject = network.subject(class_weights=[0, 2.0, -1, 0])
    expected = []
    for channel in range(20):
        without = network.maps.copy()
        without[channel] = 0
        logits = network.logits(np.stack([network.maps, without])) @ subject.class_weights
        expected.append(logits[0] - logits[1])
    found = network.explain("ablation_cam", subject).weights
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[6] == 0
    assert sum(network.passes(HeadPasses)) == 19


def test_recipro_cam_is_the_score_of_single_positions():
    network = Tiny(seed=4)
    network.maps[:, 1, 2] = 0
    subject = network.subject(class_weights=[0, 2.0, -1, 0])
    expected = np.zeros((3, 4))
    for row, column in np.ndindex(3, 4):
        alone = np.zeros_like(network.maps)
        alone[:, row, column] = network.maps[:, row, column]
        expected[row, column] = network.logits(alone[None])[0] @ subject.class_weights
    empty = network.logits(0 * network.maps[None])[0] @ subject.class_weights
    found = network.explain("recipro_cam", subject).saliency_map
    np.testing.assert_allclose(found, 12 * (expected - empty), atol=1e-5)
    assert sum(network.passes(HeadPasses)) == 12


@pytest.mark.parametrize("name", ["ablation_cam", "recipro_cam"])
def test_the_closed_form_of_a_linear_head_equals_the_passes(name):
    network = Tiny(linear=True)
    subject = network.subject(class_weights=[1.0, 0, -1, 0.5])
    closed = network.explain(name, subject)
    assert not network.asks
    hidden = MethodInput(network.maps, subject.logits, subject.class_weights, network.image)
    passed = network.explain(name, hidden)
    assert network.asks
    np.testing.assert_allclose(
        whole_map(passed, network.maps), whole_map(closed, network.maps), atol=1e-4
    )
    if name == "ablation_cam":
        np.testing.assert_allclose(passed.weights, closed.weights, atol=1e-5)


# More than one class, layer or map


def test_finer_cam_asks_for_a_class_rather_than_the_nearest_ones():
    """Of logits 5, 4.9, 1, 5.2, 4 the nearest to class 0's are those of 1, 3 and 4."""
    logits = np.array([5, 4.9, 1, 5.2, 4], np.float32)

    def asked(class_weights, **given):
        asks = []

        def answer(ask):
            asks.append(ask.class_weights)
            return G.astype(np.float32)

        subject = MethodInput(A.astype(np.float32), logits, np.array(class_weights), np.zeros(1))
        run_method(METHODS["finer_cam"].queries(subject, MethodSettings(**given)), answer)
        return asks[0]

    np.testing.assert_allclose(asked([1.0, 0, 0, 0, 0]), [1, -0.2, 0, -0.2, -0.2])
    one = asked([0, 0, 1.0, 0, 0], finer_classes=1, finer_gamma=0.5)
    np.testing.assert_allclose(one, [0, 0, 1, 0, -0.5])
    everyone = asked([0, 0, 1.0, 0, 0], finer_classes=9, finer_gamma=1)
    np.testing.assert_allclose(everyone, [-0.25, -0.25, 1, -0.25, -0.25])
    np.testing.assert_allclose(asked([0, 1.0, 0, -1, 0]), [0, 1, 0, -1, 0])


def test_integrative_cam_fuses_layers_by_slopes_and_activations():
    """Step by step, on grids of 6 x 8, 3 x 4 and the target's 3 x 4."""
    network = Tiny(seed=5)
    subject = network.subject(1)
    layers = [*network.layers, network.maps]
    weights = subject.class_weights
    slopes = [*network.answer(LayerGradients(weights)), network.gradient(weights)]
    maps, gradients, activations = [], [], []
    for layer, slope in zip(layers, slopes, strict=True):
        rising = np.maximum(slope, 0)
        alpha = 1 / (2 + layer.sum(axis=(1, 2), keepdims=True) * rising)
        channel = (alpha * rising).sum(axis=(1, 2))
        found = np.tensordot(channel, layer, 1) + subject.logits[1] - (slope * layer).sum()
        maps.append(resample(found / np.abs(found).max(), 3, 4))
        gradients.append(np.abs(slope).mean() * slope[0].size)
        activations.append(np.abs(layer).mean())
    share = (gradients / np.sum(gradients) + activations / np.sum(activations)) / 2
    terms = network.explain("integrative_cam", subject)
    np.testing.assert_allclose(terms.saliency_map, np.tensordot(share, maps, 1), atol=1e-5)


def test_integrative_cam_of_the_target_layer_alone_asks_for_no_other():
    network = Tiny()
    network.layers = ()
    terms = network.explain("integrative_cam")
    assert [type(ask) for ask in network.asks] == [Gradient]
    assert np.abs(terms.saliency_map).max() == pytest.approx(1, rel=1e-6)


def test_legrad_is_the_mean_over_layers():
    network = Tiny()
    terms = network.explain("legrad", network.subject(2))
    expected = np.maximum(network.attention[2], 0).mean(axis=0)
    np.testing.assert_allclose(terms.saliency_map, expected, atol=1e-6)


# Theory


@pytest.mark.parametrize("class_weights", [[1.0, 0, 0, 0], [0, 1, -1, 0.3]])
def test_on_gap_and_linear_the_linear_methods_are_one(class_weights):
    network = Tiny(linear=True)
    subject = network.subject(class_weights=class_weights)
    expected = whole_map(network.explain("cam", subject), network.maps)
    for name in ("grad_cam", "hires_cam", "xgrad_cam", "recipro_cam"):
        found = whole_map(network.explain(name, subject), network.maps)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_exact_methods_account_for_the_logit_and_others_do_not(name):
    network = Tiny(linear=True)
    subject = network.subject(class_weights=[0, 1.0, -1, 0])
    terms = network.explain(name, subject)
    evidence = (spatial(terms.weights) * network.maps).mean(axis=(1, 2)).sum()
    bias = subject.class_weights @ network.bias
    accounted = evidence + bias == pytest.approx(float(subject.score(subject.logits)), abs=1e-5)
    # Finer-CAM takes this contrast as it is; of a single class it explains another score.
    assert accounted == (METHODS[name].complete or name == "finer_cam")


def test_finer_cam_does_not_account_for_a_single_classes_logit():
    network = Tiny(linear=True)
    subject = network.subject()
    terms = network.explain("finer_cam", subject)
    evidence = (spatial(terms.weights) * network.maps).mean(axis=(1, 2)).sum()
    assert abs(evidence + network.bias[0] - subject.logits[0]) > 0.05


@pytest.mark.parametrize(("name", "linear"), HEADS)
def test_a_contrast_is_explained_as_a_class_of_that_score(name, linear):
    weights = np.array([0, 1.0, -0.5, 0.25])
    network = Tiny(linear=linear)
    twin = network.contrasted(weights)
    of_class = twin.explain("grad_cam" if name == "finer_cam" else name, twin.subject(0))
    of_contrast = network.explain(name, network.subject(class_weights=weights))
    np.testing.assert_allclose(
        whole_map(of_contrast, network.maps), whole_map(of_class, network.maps), atol=1e-5
    )


@pytest.mark.parametrize(("name", "linear"), HEADS)
def test_groups_add_up_to_the_map(name, linear):
    """Also where the map is not the plain sum of the method's own terms; here D > H W.

    Centred maps, those of principal components, miss the sum by a constant.
    """
    network = Tiny(linear=linear)
    terms = network.explain(name)
    whole = whole_map(terms, network.maps)
    groups = np.random.default_rng(2).integers(0, 3, len(network.maps))
    parts = [
        (spatial(terms.weights) * network.maps)[groups == group].sum(axis=0) for group in range(3)
    ]
    missed = sum(parts) - whole
    if name in {"eigen_cam", "eigen_grad_cam", "decom_cam"}:
        missed -= missed.mean()
    assert np.abs(missed).max() < 1e-3 * np.abs(whole).max()


# Costs


@pytest.mark.parametrize("chunk", [1, 5, 64])
@pytest.mark.parametrize(("name", "linear"), HEADS)
def test_passes_are_bounded_and_come_in_chunks(name, linear, chunk):
    settings = MethodSettings(chunk=chunk, smooth_samples=3)
    network = Tiny(linear=linear, channels=14)
    network.explain(name, settings=settings)
    method = METHODS[name]
    for kind, bound in ((ImagePasses, method.image_passes), (HeadPasses, method.head_passes)):
        passes = network.passes(kind)
        most = bound(14, 12, settings)
        assert sum(passes) <= most
        assert max(passes, default=0) <= chunk
        # Not bounds of thin air: reached where nothing can be left out.
        if not (linear and kind is HeadPasses):
            assert sum(passes) == most


def test_asks_are_float32_and_leave_the_subject_alone():
    network = Tiny()
    subject = network.subject()
    before = subject.activation_maps.copy(), subject.image.copy()
    for name in OTHERS:
        network.explain(name, subject)
    for ask in network.asks:
        if isinstance(ask, ImagePasses):
            assert ask.images.dtype == np.float32
        if isinstance(ask, HeadPasses):
            assert ask.activation_maps.dtype == np.float32
    np.testing.assert_array_equal(subject.activation_maps, before[0])
    np.testing.assert_array_equal(subject.image, before[1])


@pytest.mark.parametrize("name", OTHERS)
def test_dead_maps_and_flat_scores_give_finite_maps(name):
    dead = Tiny(maps=np.zeros((5, 3, 4)))
    flat = Tiny()
    flat.readout[:] = 0
    for network in (dead, flat, constant(), constant(linear=True)):
        terms = network.explain(name)
        assert np.isfinite(terms.weights).all()
        assert np.isfinite(whole_map(terms, network.maps)).all()


def constant(linear=False):
    """Maps that never vary, and whose mean over 49 cells is not exactly their value."""
    values = np.random.default_rng(1).random((20, 1, 1), np.float32) + np.float32(0.1)
    return Tiny(linear, maps=np.broadcast_to(values, (20, 7, 7)))


@pytest.mark.parametrize("name", ["eigen_cam", "eigen_grad_cam", "decom_cam"])
def test_what_never_varies_has_no_components(name):
    network = constant(linear=True)
    shaken = np.random.default_rng(2).choice([1 - 1e-7, 1, 1 + 1e-7], network.maps.shape)
    for maps in (network.maps, (network.maps * shaken).astype(np.float32)):
        terms = explained_by(maps, network.gradient(np.eye(4)[0]), name)
        assert not terms.weights.any()
        assert not whole_map(terms, maps).any()


# Shared maths


def test_reproducing_weights_are_the_smallest():
    random = np.random.default_rng(6)
    maps, target = random.random((20, 3, 4)), random.standard_normal((3, 4))
    weights = reproducing_weights(maps, target)
    expected = np.linalg.pinv(maps.reshape(20, -1).T) @ target.ravel()
    np.testing.assert_allclose(weights, expected, atol=1e-4)


def test_too_few_channels_come_as_near_to_a_map_as_they_can():
    random = np.random.default_rng(6)
    maps, target = random.random((5, 3, 4)), random.standard_normal((3, 4))
    expected = np.linalg.lstsq(maps.reshape(5, -1).T, target.ravel(), rcond=None)[0]
    np.testing.assert_allclose(reproducing_weights(maps, target), expected, atol=1e-4)


def test_masks_span_0_to_1_and_constant_maps_are_black():
    maps = np.stack([A[0], 5 + A[1], np.full((2, 2), 3.3)])
    made = masks(maps, 9, 7)
    np.testing.assert_allclose(made.min(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(made.max(axis=(1, 2)), [1, 1, 0], atol=1e-6)


def test_blurring_keeps_a_plain_image_and_spreads_a_dot():
    np.testing.assert_allclose(blur(np.full((3, 16, 20), 2.0), 1 / 8), 2, rtol=1e-5)
    dot = np.zeros((1, 32, 32))
    dot[0, 16, 16] = 1
    spread = blur(dot, 1 / 16)[0]
    assert spread[16, 18] / spread[16, 16] == pytest.approx(np.exp(-0.5), rel=1e-3)


# Units


def rescaled(network, activations=1.0, scores=1.0):
    """The same network with maps and scores in other units: the head takes the maps' back."""
    other = Tiny.__new__(Tiny)
    other.__dict__ = {**network.__dict__, "asks": []}
    other.maps = (network.maps * activations).astype(np.float32)
    other.layers = tuple((a * activations).astype(np.float32) for a in network.layers)
    other.layer_slopes = [s / activations for s in network.layer_slopes]
    other.head, other.mixing = network.head / activations, network.mixing / activations
    other.change = scores * network.change
    return other


@pytest.mark.parametrize("name", OTHERS)
def test_a_map_in_logit_units_follows_the_logits_scale_and_no_other(name):
    """Grad-CAM++'s alpha counts the score in natural units: doubled, its map grows, not twofold.

    LeGrad's slopes scale as a logit does, but they are by attention, of which no amount is told.
    """
    network, method = Tiny(), METHODS[name]
    wanted = whole_map(network.explain(name), network.maps)
    other = rescaled(network, activations=4.0)
    as_before = np.allclose(whole_map(other.explain(name), other.maps), wanted, rtol=1e-3)
    twice = rescaled(network, scores=2.0)
    doubled = np.allclose(whole_map(twice.explain(name), twice.maps), 2 * wanted, rtol=1e-3)
    if name == "grad_cam_plus_plus":
        assert as_before
        assert not doubled
    elif name != "legrad":
        assert (as_before and doubled) == method.in_logit_units
    assert network.explain(name).in_logit_units == method.in_logit_units


def test_the_methods_that_have_a_scale_of_their_own():
    own = {name for name, method in METHODS.items() if not method.in_logit_units}
    assert own == {
        "score_cam", "ss_cam", "eigen_cam", "ablation_cam", "integrative_cam", "legrad",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_terms_add_up_to_the_map_but_where_the_contract_says_otherwise(name):
    """Centred maps differ from the terms' sum by a constant; fitted terms reproduce the map."""
    network = Tiny(linear=name == "cam")
    terms = network.explain(name)
    total = (spatial(terms.weights) * network.maps).sum(axis=0)
    off = whole_map(terms, network.maps) - total
    if name in {"eigen_cam", "eigen_grad_cam", "decom_cam"}:
        assert abs(terms.saliency_map.mean()) < 1e-6 * np.abs(terms.saliency_map).max()
        assert np.ptp(off) < 1e-5 * np.abs(total).max() < abs(off.mean())
    else:
        np.testing.assert_allclose(off, 0, atol=1e-4 * np.abs(total).max())
