"""The first run of a user's module: logits pass, and all else is refused with a remedy."""

import pytest
import timm
import torch
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.smoke_test import (
    check_logits,
    require_classifier,
    sample_images,
)
from torch import nn
from torchvision import models
from transformers.modeling_outputs import ImageClassifierOutput

SIZE = Preprocessing(36, 32, 24, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Returning(nn.Module):
    """Returns pooled features in a form of its own."""

    def __init__(self, form=lambda logits: logits):
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.head, self.form = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 4), form

    def forward(self, x):
        return self.form(self.head(self.stem(x).relu().mean((2, 3))))


def checked(module):
    return check_logits("tiny", module.eval(), sample_images(SIZE))


def test_sample_images_have_the_inputs_size_and_are_always_the_same():
    assert sample_images(SIZE).shape == (3, 3, 32, 24)
    assert torch.equal(sample_images(SIZE), sample_images(SIZE))


def test_logits_are_returned():
    assert checked(Returning()).shape == (3, 4)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda logits: logits.softmax(1), "without its last softmax"),
        (torch.sigmoid, "without its last sigmoid"),
        (lambda logits: logits.sigmoid()[:, :, None].flatten(1), "without its last sigmoid"),
        (lambda logits: logits[:, :1], r"two logits, \[0, z\]"),
        (lambda logits: logits[:, :, None, None], r"\(3, 4, 1, 1\) .* nn.Flatten"),
        (lambda logits: logits.argmax(1), r"\(3,\) to 3 images"),
        (lambda logits: (logits, logits.mean()), "answers tuple, .* returns its logits alone"),
        (lambda logits: {"scores": logits, "aux": 0}, r"answers dict, .* \['aux', 'scores'\]"),
        (lambda logits: ImageClassifierOutput(logits=logits), r"returns its `\.logits`"),
        (torch.Tensor.double, r"answers torch.float64; .* `\.float\(\)`"),
    ],
)
def test_what_answers_no_logits_is_told_what_to_answer(form, message):
    with pytest.raises(ExportRefused, match=message):
        checked(Returning(form))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Returning().half(), r"in float32, by `\.float\(\)`"),
        (Returning().double(), r"in float32, by `\.float\(\)`"),
        (nn.Sequential(nn.Conv2d(1, 4, 32), nn.Flatten()), "in_channels=1; .* 3 input channels"),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 4)), "takes such images and nothing else"),
    ],
)
def test_what_does_not_run_on_images_is_told_what_to_be(module, message):
    with pytest.raises(ExportRefused, match=message):
        checked(module)


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_a_traced_module_is_refused_for_what_it_was_made_from():
    traced = torch.jit.trace(Returning().eval(), torch.zeros(1, 3, 32, 24))
    with pytest.raises(ExportRefused, match=r"ScriptModule, .* made from, or an ONNX file"):
        checked(traced)


def test_true_logits_may_all_lie_between_0_and_1():
    """As [0, z] may, which is what networks of one logit are told to answer."""
    small = Returning(lambda logits: torch.cat([logits[:, :1] * 0, logits[:, :1]], 1))
    with torch.no_grad():
        small.head.weight *= 0.01
        small.head.bias.fill_(0.5)
    logits = checked(small)
    assert bool(((logits >= 0) & (logits <= 1)).all())


def vision_transformer():
    return models.VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=4)


HEADED = {
    "resnet18": (models.resnet18, "fc"),
    "mobilenet_v3_small": (models.mobilenet_v3_small, "classifier"),
    "densenet121": (models.densenet121, "classifier"),
    "convnext_tiny": (models.convnext_tiny, "classifier.2"),
    "vit": (vision_transformer, "heads"),
    "mobilenetv3_small_050": (lambda: timm.create_model("mobilenetv3_small_050"), "classifier"),
}


@pytest.mark.parametrize("name", HEADED)
def test_a_network_without_its_classifier_is_refused_and_one_with_it_is_not(name):
    make, head = HEADED[name]
    module, images = make().eval().requires_grad_(False), torch.randn(3, 3, 32, 32)
    require_classifier(name, module, images)
    module.set_submodule(head, nn.Identity())
    with pytest.raises(ExportRefused, match=r"comes from no linear layer, .* last, linear layer"):
        require_classifier(name, module, images)


def test_an_output_of_length_1_is_no_classifiers():
    with pytest.raises(ExportRefused, match="output of 4 numbers has length 1"):
        require_classifier("tiny", Returning(nn.functional.normalize), sample_images(SIZE))


@pytest.mark.parametrize(
    "module",
    [
        models.squeezenet1_1(num_classes=4),  # ends in a convolution, ReLU and pooling
        Returning(lambda logits: (logits + logits.flip(1)) / 2),
        Returning(lambda logits: 20 * nn.functional.normalize(logits)),
        Returning(torch.Tensor.detach),
    ],
    ids=["convolution", "mean", "scaled", "detached"],
)
def test_other_ways_to_end_in_logits_pass(module):
    require_classifier("tiny", module.eval(), sample_images(SIZE))
