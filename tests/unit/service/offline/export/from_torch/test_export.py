"""Plans of torch classifiers: layers by name, and what is refused before anything is written."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from textcam_service.artefacts.backbone import GAP_LINEAR
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch import export
from textcam_service.offline.export.from_torch.export import export_network, plan_network
from textcam_service.offline.export.tensor_layout import HookPoint
from textcam_service.offline.networks.network import Network
from textcam_service.runtime.backbone import Backbone
from torch import nn

SIZE = Preprocessing(16, 16, 16, "bilinear", (0.5,) * 3, (0.25,) * 3)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.body, self.fc = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 1), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.body(self.stem(x).relu()).mean((2, 3)))


def network(names="abc"):
    return Network("tiny", Small().eval().requires_grad_(False), SIZE, tuple(names))


def test_the_written_backbone_computes_the_network(tmp_path):
    own = network()
    report = export_network(own, tmp_path / "b")
    assert (report.target_layer, report.head_kind) == ("body", GAP_LINEAR)
    assert (report.maps_shape, report.class_count) == ((6, 4, 4), 3)
    assert max(report.logits_error, report.maps_error) < 1e-5
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = [output.logits for output in Backbone(tmp_path / "b").forward(images.numpy())]
    np.testing.assert_allclose(found, own.module(images).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"target_layer": "bodi"}, {"layers": ["bodi"]}], ids=str)
def test_an_unknown_layer_is_refused_with_its_neighbours(options):
    with pytest.raises(ExportRefused, match=r"tiny has no layer 'bodi'; near it: \['body'"):
        plan_network(network(), **options)


def test_another_number_of_class_names_is_refused():
    with pytest.raises(ExportRefused, match="tiny: 3 logits, 4 class names"):
        plan_network(network("abcd"))


@pytest.mark.parametrize("errors", [(2e-4, 0.0), (0.0, 2e-4), (float("nan"), 0.0)], ids=str)
def test_a_graph_that_differs_by_more_than_the_tolerance_is_refused(errors, monkeypatch):
    monkeypatch.setattr(export, "backbone_errors", lambda *_: errors)
    with pytest.raises(ExportRefused, match=r"its ONNX form differs from torch by .* than 0.0001"):
        export._verify("tiny", b"", nn.Identity(), torch.zeros(1), 1e-4)


def test_a_graph_within_the_tolerance_passes_with_its_errors(monkeypatch):
    monkeypatch.setattr(export, "backbone_errors", lambda *_: (1e-4, 5e-5))
    found = export._verify("tiny", b"", nn.Identity(), torch.zeros(1), 1e-4)
    assert found == (1e-4, 5e-5)


def test_maps_that_do_not_hold_one_image_after_the_other_are_refused():
    class Trunk(nn.Module):
        def forward(self, images):
            return images.mean((2, 3)), images.repeat(2, 1, 1, 1)

    parts = SimpleNamespace(trunk=Trunk(), outputs=())
    with pytest.raises(ExportRefused, match="body or what goes around it does not hold one image"):
        export._run_trunk(parts, torch.zeros(2, 3, 4, 4), HookPoint("body"))
