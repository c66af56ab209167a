"""Score-CAM, SS-CAM and Ablation-CAM against grad-cam and torchcam, on small networks."""

import functools

import numpy as np
import pytest
import pytorch_grad_cam as gradcam
import torch
import torchcam.methods as torchcam
import torchvision.models as zoo
from oracle_networks import (
    TOLERANCE,
    Net,
    array,
    calibrated,
    difference,
    drawn_by_grad_cam,
    drawn_by_torchcam,
)
from pytorch_grad_cam.ablation_layer import AblationLayer
from textcam_service.core.methods import (
    MethodSettings,
)
from textcam_service.core.methods.perturbation import smoothing_noise
from torch import nn


@pytest.fixture(scope="module")
def shallow():
    """MobileNet cut at 24 channels on a 12 x 12 grid, two of them dead."""
    torch.manual_seed(2)
    model = calibrated(zoo.mobilenet_v3_small(), 96)
    normalisation = model.features[2].block[-1][1]
    normalisation.weight.data[[3, 8]] = 0
    normalisation.bias.data[8] = 0.25
    nn.init.normal_(model.classifier[3].weight, std=5)
    return Net(model, model.features[2], 96, class_index=2)


@pytest.fixture(scope="module")
def flat():
    """A network whose maps are as large as its image: masks need no stretching."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 10, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(10, 12, 3, stride=3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12 * 25, 6),
    )
    nn.init.normal_(model[5].weight, std=1)
    return Net(model, model[1], 16, class_index=1)


class StretchedFirst(torchcam.ScoreCAM):
    """torchcam's, scaling masks to 0..1 after it has stretched them, not before.

    So have it torchcam's own docstring and grad-cam. It does scale before too, which changes
    nothing then.
    """

    def _upsample(self, activation):
        return self._normalize(super()._upsample(activation), activation.ndim - 2)


@pytest.mark.parametrize(
    ("name", "peer"), [("shallow", StretchedFirst), ("flat", torchcam.ScoreCAM)]
)
def test_torchcam_makes_the_same_score_cam(name, peer, request):
    net = request.getfixturevalue(name)
    assert difference(drawn_by_torchcam(net.explain("score_cam")), net.torchcam(peer)) <= TOLERANCE


@pytest.mark.parametrize("name", ["shallow", "flat"])
def test_grad_cam_draws_the_same_score_cam(name, request, monkeypatch):
    """grad-cam stretches masks corner to corner (align_corners).

    torchcam and we stretch between pixel centres, as all maps here are drawn; so shall grad-cam.
    """
    net = request.getfixturevalue(name)
    between_centres = functools.partial(nn.Upsample, mode="bilinear", align_corners=False)
    monkeypatch.setattr(nn, "UpsamplingBilinear2d", between_centres)
    theirs = net.grad_cam(gradcam.ScoreCAM(net.model, [net.target]))
    assert difference(drawn_by_grad_cam(net.explain("score_cam"), net.size), theirs) <= TOLERANCE


class NoisyStretchedFirst(StretchedFirst, torchcam.SSCAM):
    """SS-CAM likewise."""


@pytest.mark.parametrize("name", ["shallow", "flat"])
def test_torchcam_makes_the_same_ss_cam_of_the_same_noise(name, request):
    """torchcam draws its noise anew for each channel; it is given ours, one for all channels."""
    net = request.getfixturevalue(name)
    settings = MethodSettings(smooth_samples=3, smooth_sigma=0.5)

    class OurNoise:
        drawn = 0

        def sample(self, shape):
            noise = smoothing_noise(settings, self.drawn, *shape[-2:])
            self.drawn += 1
            return torch.from_numpy(noise).expand(shape)

    with NoisyStretchedFirst(net.model, net.target, num_samples=3, std=0.5) as peer:
        peer._distrib = OurNoise()
        net.model(net.image)
        theirs = array(peer(net.class_index)[0][0])
        assert peer._distrib.drawn == 3
    ours = net.explain("ss_cam", settings=settings)
    assert difference(drawn_by_torchcam(ours), theirs) <= TOLERANCE


class Zeroing(AblationLayer):
    """grad-cam's ablation as the paper has it: set to 0.

    Where a map has negative values, grad-cam sets the channel to about -1e7 instead, and to a
    lower value for each next channel of the batch.
    """

    def __call__(self, _):
        output = self.activations
        for place in range(len(output)):
            output[place, self.indices[place]] = 0
        return output


@pytest.mark.parametrize(("name", "layer"), [("shallow", Zeroing), ("flat", AblationLayer)])
def test_grad_cam_draws_the_same_ablation_cam(name, layer, request):
    """grad-cam divides the drops by the score, which turns the map over where that is negative."""
    net = request.getfixturevalue(name)
    peer = gradcam.AblationCAM(net.model, [net.target], ablation_layer=layer())
    inputs = net.inputs()
    sign = np.sign(inputs.logits[net.class_index])
    theirs = net.grad_cam(peer)
    ours = sign * net.explain("ablation_cam", inputs)
    assert difference(drawn_by_grad_cam(ours, net.size), theirs) <= TOLERANCE


def test_grad_cam_draws_the_same_ablation_cam_by_the_closed_form():
    """ResNet-18: no pass here, 512 there."""
    torch.manual_seed(4)
    model = calibrated(zoo.resnet18(), 64)
    net = Net(model, model.layer4, 64, head=model.fc, class_index=0)
    theirs = net.grad_cam(gradcam.AblationCAM(model, [net.target]))
    inputs = net.inputs()
    ours = np.sign(inputs.logits[0]) * net.explain("ablation_cam", inputs)
    assert difference(drawn_by_grad_cam(ours, 64), theirs) <= TOLERANCE
