"""Networks cut at a target layer, explained here and by the peers of tests/oracle."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from pytorch_grad_cam.utils.image import scale_cam_image
from textcam_service.core.cam import saliency_map
from textcam_service.core.methods import (
    METHODS,
    Gradient,
    HeadPasses,
    ImagePasses,
    MethodInput,
    MethodSettings,
    run_method,
)
from torch import Tensor, nn
from torch.nn import functional

TOLERANCE = 1e-3


@dataclasses.dataclass
class Net:
    """A network cut at a target layer, and how its output there holds maps (N, D, H, W)."""

    model: nn.Module
    target: nn.Module
    size: int
    to_maps: Callable[[Tensor], Tensor] | None = None
    from_maps: Callable[[Tensor, Tensor], Tensor] | None = None
    head: nn.Linear | None = None
    class_index: int = 0

    def __post_init__(self):
        self.model.eval()
        self.image = smooth_noise(self.size)
        # Gradients end at the target layer: nobody needs those of what comes before.
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.target.register_forward_hook(lambda _, __, output: output.requires_grad_())

    def run(self, image, replace=None):
        """Logits and the target's output, which other maps may replace."""
        kept = []

        def hook(_, __, output):
            kept.append(output)
            if replace is None:
                return None
            return replace if self.from_maps is None else self.from_maps(replace, output)

        handle = self.target.register_forward_hook(hook)
        try:
            return self.model(image), kept[0]
        finally:
            handle.remove()

    def maps(self, output):
        return array((output if self.to_maps is None else self.to_maps(output))[0])

    def inputs(self, class_weights=None):
        logits, output = self.run(self.image)
        one_hot = np.eye(logits.shape[1])[self.class_index]
        return MethodInput(
            activation_maps=self.maps(output),
            logits=array(logits[0]),
            class_weights=one_hot if class_weights is None else class_weights,
            image=array(self.image[0]),
            head_weights=None if self.head is None else array(self.head.weight),
        )

    def answer(self, ask):
        if isinstance(ask, Gradient):
            logits, output = self.run(self.image)
            score = logits[0].double() @ torch.from_numpy(ask.class_weights)
            return self.maps(torch.autograd.grad(score, output)[0])
        with torch.no_grad():
            if isinstance(ask, ImagePasses):
                return array(self.model(torch.from_numpy(ask.images)))
            assert isinstance(ask, HeadPasses)
            maps = torch.from_numpy(ask.activation_maps)
            return array(self.run(self.image.repeat(len(maps), 1, 1, 1), maps)[0])

    def explain(self, name, inputs=None, settings=None):
        """The method's map."""
        inputs = inputs or self.inputs()
        terms = run_method(METHODS[name].queries(inputs, settings or MethodSettings()), self.answer)
        if terms.saliency_map is not None:
            return terms.saliency_map
        if terms.weights.ndim == 3:
            return (terms.weights * inputs.activation_maps).sum(axis=0)
        return saliency_map(terms.weights, inputs.activation_maps)

    def grad_cam(self, peer, targets=None):
        """What grad-cam draws: (size, size), 0..1."""
        chosen = targets or [lambda logits: logits[self.class_index]]
        with peer:
            return peer(input_tensor=self.image, targets=chosen)[0]

    def torchcam(self, method, normalized=True):
        """What torchcam makes: (H, W), 0..1."""
        with method(self.model, self.target, reshape_transform=self.to_maps) as peer:
            scores = self.model(self.image)
            return array(peer(self.class_index, scores, normalized=normalized)[0][0])


def array(tensor):
    return np.ascontiguousarray(tensor.detach().numpy())


def drawn_by_grad_cam(saliency, size):
    """grad-cam's way to draw a map: the positive part stretched to 0..1, resized, stretched."""
    first = scale_cam_image(np.maximum(saliency, 0)[None], (size, size))
    return scale_cam_image(first)[0]


def drawn_by_torchcam(saliency):
    positive = np.maximum(saliency, 0)
    low, high = positive.min(), positive.max()
    return (positive - low) / (high - low)


def difference(ours, theirs):
    assert np.ptp(theirs) > 0.99, "a flat map agrees with anything"
    return float(np.abs(ours - theirs).max())


def smooth_noise(size):
    coarse = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    fine = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(6))
    return 1.5 * functional.interpolate(coarse, size, mode="bicubic") + 0.3 * fine


def calibrated(model, size):
    """Give the model the batch normalisation that training would leave it with."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = None
    images = smooth_noise(size) * torch.linspace(-1.5, 1.5, 4)[:, None, None, None]
    with torch.no_grad():
        model(images)
    return model.eval()
