"""Whether a network's export was tried."""

import pytest
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.export.tried_networks import TRIED, tried_note
from textcam_service.offline.networks.loading import load_network


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:resnet10t.c3_in1k"])
def test_a_network_that_was_tried_is_told_with_the_number(name):
    count = len(TRIED.read_text().split())
    assert tried_note(name).startswith(f"timm:resnet10t is one of {count} networks whose export")


@pytest.mark.parametrize("name", ["timm:resnet_of_tomorrow", "torchvision:resnet10t"])
def test_one_that_was_not_asks_to_look_at_its_maps(name):
    assert "is none of the " in tried_note(name)
    assert "look at some of its maps" in tried_note(name)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "import:a.b:c", "scenes:classifier"])
def test_others_are_left_out(name):
    assert tried_note(name) == ""


def test_an_export_tells_it(tmp_path):
    report = export_network(load_network("timm:test_vit4", "none"), tmp_path / "backbone")
    assert any(note.startswith("timm:test_vit4 is ") for note in report.notes)
