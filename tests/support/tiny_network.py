"""A network of arrays whose maps can be computed by hand, for CAM methods."""

import numpy as np
from textcam_service.core.cam import activation_scores
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

    def inputs(self, class_index=0, class_weights=None):
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

    def explain(self, name, inputs=None, settings=SETTINGS):
        return run_method(METHODS[name].queries(inputs or self.inputs(), settings), self.answer)

    def passes(self, kind):
        return [
            len(ask.images if kind is ImagePasses else ask.activation_maps)
            for ask in self.asks
            if isinstance(ask, kind)
        ]


def explained_by(maps, gradient, name, **given):
    """The method's terms for maps and their gradient alone."""
    maps = np.asarray(maps, np.float32)
    inputs = MethodInput(maps, np.zeros(2, np.float32), np.array([1.0, 0]), np.zeros((3, 4, 4)))
    settings = MethodSettings(**given)
    return run_method(
        METHODS[name].queries(inputs, settings), lambda _: np.asarray(gradient, np.float32)
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

HEADS = [*((name, True) for name in NAMES), *((name, False) for name in OTHERS)]


def constant(linear=False):
    """Maps that never vary, and whose mean over 49 cells is not exactly their value."""
    values = np.random.default_rng(1).random((20, 1, 1), np.float32) + np.float32(0.1)
    return Tiny(linear, maps=np.broadcast_to(values, (20, 7, 7)))


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
