"""What a user writes around grad-cam; every peer serves this. It runs in the peers' environments.

JPEG bytes -> Pillow -> torchvision's transforms -> a batch -> GradCAM of the top class.
grad-cam keeps its activations and gradients in the object, so one thread only may use it.
"""

import io
import os

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from pytorch_grad_cam import GradCAM
from torchvision import models, transforms
from torchvision.transforms import InterpolationMode

CELL = 32  # pixels of the network's input per cell of its 7 x 7 map


def _resnet50():
    network = models.resnet50(weights=None)
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return network, network.layer4[-1], InterpolationMode.BILINEAR, mean, deviation


def _efficientnet_lite0():
    network = EfficientNet.from_name("efficientnet-lite0")
    return network, network._bn1, InterpolationMode.BICUBIC, (127 / 255,) * 3, (128 / 255,) * 3


class Explainer:
    """Explains batches of JPEG images."""

    def __init__(self):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        build = {"resnet50": _resnet50, "efficientnet_lite0": _efficientnet_lite0}
        network, layer, interpolation, mean, deviation = build[os.environ["BENCH_MODEL"]]()
        state = torch.load(os.environ["BENCH_CHECKPOINT"], map_location="cpu", weights_only=True)
        network.load_state_dict(state)
        self._prepare = transforms.Compose([
            transforms.Resize(256, interpolation=interpolation),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean, deviation),
        ])  # fmt: skip
        self._cam = GradCAM(model=network.eval(), target_layers=[layer])

    def decode(self, jpeg):
        """JPEG bytes -> (3, 224, 224)."""
        return self._prepare(Image.open(io.BytesIO(jpeg)).convert("RGB"))

    def explain(self, inputs):
        """N tensors (3, 224, 224) -> classes (N,) and saliency maps (N, 7, 7), 0..1."""
        heatmaps = self._cam(input_tensor=torch.stack(list(inputs)), targets=None)
        cells = heatmaps.shape[1] // CELL
        maps = heatmaps.reshape(len(heatmaps), cells, CELL, cells, CELL).mean(axis=(2, 4))
        classes = self._cam.outputs.argmax(dim=1).tolist()
        return classes, np.asarray(maps, np.float32)


def max_batch():
    return int(os.environ["BENCH_MAX_BATCH"])


def max_delay_s():
    return float(os.environ["BENCH_MAX_DELAY_S"])
