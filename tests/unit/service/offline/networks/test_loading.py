"""Networks by name: how often they run, what is refused, and what identifies them."""

import dataclasses
import sys

import pytest
import torch
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused, MissingExtra
from textcam_service.offline.export.from_torch.export import plan_network
from textcam_service.offline.networks import loading, smoke_test
from textcam_service.offline.networks.loading import load_network, state_digest, weights_digest
from textcam_service.offline.networks.network import Network
from torch import nn

_MODULES = """
from types import SimpleNamespace
import torch
from torch import nn
from textcam_service.core.types import Preprocessing

class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5)
        self.preprocessing = Preprocessing(32, 32, 32, "bilinear", (0.5,) * 3, (0.25,) * 3)
    def forward(self, x):
        return self.head(self.stem(x).mean((2, 3)))

def named():
    made = Counting()
    made.class_names = "abcde"
    return made

def zeros():
    made = Counting()
    nn.init.zeros_(made.head.weight)
    return made

def sized(classes=3):
    made = Counting()
    made.head = nn.Linear(8, classes)
    return made

ready = Counting()

def headless():
    made = Counting()
    made.stem, made.head = nn.Sequential(made.stem, nn.BatchNorm2d(8), nn.ReLU()), nn.Identity()
    return made

def sigmoids():
    return ended(Counting(), nn.Sigmoid())

def reshaped():
    return ended(Counting(), nn.Sigmoid(), nn.Unflatten(1, (5, 1)), nn.Flatten())

def ended(made, *tail):
    whole = nn.Sequential(made, *tail)
    whole.preprocessing = made.preprocessing
    return whole

def stating():
    made = Counting()
    made.multi_label = True
    return made

def configured():
    made = ended(Counting())
    made[0].config = SimpleNamespace(problem_type="multi_label_classification")
    return made

class Functional(Counting):
    def forward(self, x):
        return super().forward(x).sigmoid()

class Elsewhere(Counting):
    def __init__(self):
        super().__init__()
        self.gate = nn.Sigmoid()
    def forward(self, x):
        return self.gate(self.head(self.gate(self.stem(x)).mean((2, 3))))

functional, elsewhere = Functional, Elsewhere

def misplaced():
    made = Counting()
    made.vertex_positions = [1, 2]
    return made
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    (tmp_path / "mods.py").write_text(_MODULES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mods", raising=False)
    return "import:mods"


@pytest.mark.parametrize(("name", "tested"), [("Counting", True), ("named", False)])
def test_a_users_module_passes_one_smoke_test_from_loading_to_export(
    name, tested, modules, monkeypatch
):
    runs = []
    faithful = smoke_test._require_logits
    monkeypatch.setattr(
        smoke_test, "_require_logits", lambda *given: runs.append(given) or faithful(*given)
    )
    network = load_network(f"{modules}:{name}")
    assert network.smoke_tested == tested
    assert plan_network(network).head.kind == "gap_linear"
    assert len(runs) == 1


def test_a_head_of_zeros_gets_seeded_weights_only_if_weights_are_none(modules):
    assert not load_network(f"{modules}:zeros").module.head.weight.any()
    drawn = [load_network(f"{modules}:zeros", "none").module.head.weight for _ in range(2)]
    assert drawn[0].any()
    assert torch.equal(*drawn)


def test_a_loaded_network_is_ready_to_evaluate(modules):
    module = load_network(f"{modules}:Counting").module
    assert not any(child.training for child in module.modules())
    assert not any(weight.requires_grad for weight in module.parameters())


def test_vertex_positions_of_another_type_are_refused(modules):
    with pytest.raises(ExportRefused, match="`vertex_positions` is a list; give a tensor"):
        load_network(f"{modules}:misplaced")


@pytest.mark.parametrize("name", ["nothing", "torchvision:", "other:resnet18", "onnx:c.onnx"])
def test_a_name_of_no_family_is_refused_with_those_that_are(name):
    with pytest.raises(ExportRefused, match=r"unknown network .* timm:NAME, scenes:classifier"):
        load_network(name)


def test_a_missing_library_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "textcam_service.offline.networks.timm", None)
    with pytest.raises(MissingExtra, match=r"timm:resnet18 needs .*textcam-service\[offline\]"):
        load_network("timm:resnet18")


def test_what_a_library_raises_becomes_a_refusal_with_a_remedy(monkeypatch):
    def failing(_name, _weights, _options, _stated):
        raise OSError("no route")

    monkeypatch.setattr(loading, "_load", failing)
    with pytest.raises(ExportRefused, match=r"\(OSError: no route\); give a tag"):
        load_network("timm:resnet18")


def _network(**changes):
    torch.manual_seed(0)
    size = Preprocessing(36, 32, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return dataclasses.replace(Network("tiny", nn.Linear(2, 2), size, ("a", "b")), **changes)


def test_digests_name_the_weights_and_all_that_feeds_and_names_them():
    digest = weights_digest(_network(), "layer")
    assert weights_digest(_network(), "layer") == digest
    assert weights_digest(_network(smoke_tested=True), "layer") == digest
    others = [
        weights_digest(_network(), "other"),
        weights_digest(_network(name="b"), "layer"),
        weights_digest(_network(class_names=("a", "c")), "layer"),
        weights_digest(_network(vertex_positions="where"), "layer"),
        weights_digest(_network(module=nn.Linear(2, 2)), "layer"),
    ]
    assert len({digest, *others}) == 6


def test_a_state_digest_covers_types_and_shapes_too():
    plain = state_digest(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        same = nn.Linear(4, 1, bias=False)
        same.weight.zero_()
        other = nn.Linear(1, 4, bias=False)
        other.weight.zero_()
    assert len({plain, state_digest(same), state_digest(other), state_digest(same.double())}) == 4


def test_options_are_arguments_of_a_function_of_ones_own(modules):
    network = load_network(f"{modules}:sized", options={"classes": 6})
    assert (len(network.class_names), network.options) == (6, {"classes": 6})
    for name in (f"{modules}:ready", "scenes:classifier"):
        with pytest.raises(ExportRefused, match="--model-option"):
            load_network(name, options={"classes": 6})


def test_names_that_are_given_replace_all_others(modules):
    assert load_network(f"{modules}:Counting", class_names="vwxyz").class_names == tuple("vwxyz")
    assert load_network(f"{modules}:named", class_names="vwxyz").class_names == tuple("vwxyz")
    with pytest.raises(ExportRefused, match="has 5 classes, but 4 class names were given"):
        load_network(f"{modules}:Counting", class_names="vwxy")


def test_a_module_without_its_classifier_is_refused_unless_its_outputs_have_names(modules):
    with pytest.raises(ExportRefused, match="its output of 8 numbers comes from no linear layer"):
        plan_network(load_network(f"{modules}:headless"))
    network = load_network(f"{modules}:headless", class_names="abcdefgh")
    assert plan_network(network).class_names == tuple("abcdefgh")


@pytest.mark.parametrize("name", ["sigmoids", "reshaped", "stating", "configured"])
def test_a_multi_label_module_gives_logits_whose_sigmoids_are_its_own_answers(modules, name):
    network = load_network(f"{modules}:{name}")
    answers = getattr(sys.modules["mods"], name)()
    assert network.multi_label
    assert plan_network(network).multi_label
    images, own = torch.randn(4, 3, 32, 32), network.module
    answers.load_state_dict(own.state_dict())
    wanted = answers(images)
    if name in {"stating", "configured"}:
        wanted = wanted.sigmoid()
    torch.testing.assert_close(own(images).sigmoid(), wanted)


def test_a_network_is_multi_label_by_option_and_not_otherwise(modules):
    plain = load_network(f"{modules}:Counting")
    said = load_network(f"{modules}:Counting", multi_label=True)
    assert (plain.multi_label, said.multi_label) == (False, True)
    assert weights_digest(plain, "x") != weights_digest(said, "x")


@pytest.mark.parametrize("name", ["functional", "elsewhere"])
def test_a_sigmoid_that_cannot_be_left_out_is_refused_with_the_remedy(modules, name):
    with pytest.raises(ExportRefused, match="without its last sigmoid, and --multi-label if"):
        load_network(f"{modules}:{name}")
