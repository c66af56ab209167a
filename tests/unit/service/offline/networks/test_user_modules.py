"""Users' modules by name: what they state, and what is refused."""

import sys

import pytest
import torch
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.loading import load_network
from textcam_service.offline.networks.network import StatedPreprocessing
from textcam_service.offline.networks.user_modules import load_user_module
from torch import nn

_MODULES = """
from torch import nn
from textcam_service.core.types import Preprocessing

class Tiny(nn.Module):
    preprocessing = Preprocessing(16, 16, 16, "bilinear", (0.5,) * 3, (0.25,) * 3)
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 3)
    def forward(self, x):
        return self.head(self.stem(x).mean((2, 3)))

made = Tiny()

def named():
    own = Tiny()
    own.class_names = ["a", "b", "a"]
    return own

def misprepared():
    own = Tiny()
    own.preprocessing = "usual"
    return own

def number():
    return 7
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    (tmp_path / "own_modules.py").write_text(_MODULES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_modules", raising=False)
    return lambda name, weights=None: load_user_module(f"import:own_modules:{name}", weights)


def test_classes_are_counted_and_numbered_unless_the_module_names_them(load):
    counted, named = load("Tiny"), load("named")
    assert (counted.class_count, counted.class_names) == (3, ())
    assert counted.smoke_tested
    assert (named.class_count, named.class_names) == (3, ("a", "b", "a"))
    assert not named.smoke_tested
    assert counted.preprocessing.height == 16


def test_weights_are_drawn_the_same_at_every_load_or_read_from_a_file(load, tmp_path):
    one, other = load("Tiny").module, load("Tiny", "none").module
    assert torch.equal(one.head.weight, other.head.weight)
    nn.init.normal_(one.head.weight)
    torch.save(one.state_dict(), tmp_path / "w.pt")
    read = load("Tiny", str(tmp_path / "w.pt")).module
    assert torch.equal(read.head.weight, one.head.weight)


def test_an_instance_is_taken_as_it_is(load):
    assert load("made").module is sys.modules["own_modules"].made


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "give import:package.module:attribute, with the package on PYTHONPATH"),
        ("number", "import:own_modules:number gives int, no torch.nn.Module"),
        ("misprepared", r"its `preprocessing` is no core\.types\.Preprocessing"),
    ],
)
def test_what_is_no_classifier_is_refused(load, name, said):
    with pytest.raises(ExportRefused, match=said):
        load(name)


def test_an_unknown_package_is_refused():
    with pytest.raises(ExportRefused, match="No module named 'absent_package'"):
        load_user_module("import:absent_package:Tiny", None)


def test_classes_are_counted_at_the_size_that_is_stated(load, monkeypatch, tmp_path):
    """The module takes that size alone, and states none."""
    (tmp_path / "flat_modules.py").write_text(
        "from torch import nn\n"
        "def made(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 12, 3))\n"
    )
    monkeypatch.delitem(sys.modules, "flat_modules", raising=False)
    name = "import:flat_modules:made"
    network = load_network(name, stated=StatedPreprocessing((8, 12), std=(1.0,) * 3))
    assert len(network.class_names) == 3
    told = network.preprocessing
    assert (told.height, told.width, told.resize, told.std) == (8, 12, 13, (1.0,) * 3)
    with pytest.raises(ExportRefused, match="does not run on images"):
        load_network(name)


def test_what_takes_the_place_of_a_modules_own_preprocessing_is_noted(load):
    network = load_network("import:own_modules:Tiny", stated=StatedPreprocessing(mean=(0.0,) * 3))
    assert (network.preprocessing.mean, network.preprocessing.std) == ((0.0,) * 3, (0.25,) * 3)
    assert network.notes == ("given, in place of the network's own: mean 0,0,0 (not 0.5,0.5,0.5)",)
