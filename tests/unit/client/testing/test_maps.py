"""Maps of the made-up explainer: groups add up, and each form has its fields."""

from __future__ import annotations

import io

import numpy as np
import pytest
from client_samples import make_pixels
from PIL import Image
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client.testing._maps import Painter
from textcam_client.testing._network import CHANNELS, FakeNetwork

OUTPUT = FakeNetwork(("a", "b")).forward(Image.fromarray(make_pixels(20, 30)), "raw")
SIGNS = np.where(np.arange(CHANNELS) % 3, 1.0, -1.0)
MAPS = OUTPUT.activation_maps * SIGNS[:, None, None]
FIRST, REST = np.arange(10), np.arange(10, CHANNELS)


def painter(form=types_pb.HEATMAP_FORM_SALIENCY, groups=True):
    return Painter(form, OUTPUT, MAPS, groups)


def values(tensor):
    return np.frombuffer(tensor.data, "<f4").reshape(tuple(tensor.shape))


def test_groups_split_the_evidence_and_the_map_between_them():
    first, rest = (painter().group(0, channels) for channels in (FIRST, REST))
    evidence = MAPS.mean(axis=(1, 2))
    assert first.evidence + rest.evidence == pytest.approx(evidence.sum(), rel=1e-5)
    assert first.evidence_for == pytest.approx(evidence[FIRST][SIGNS[FIRST] > 0].sum(), rel=1e-5)
    assert first.evidence_for + first.evidence_against == pytest.approx(first.evidence, rel=1e-5)
    both = values(first.saliency_map) + values(rest.saliency_map)
    np.testing.assert_allclose(both, MAPS.sum(axis=0), rtol=1e-4, atol=1e-5)


def test_a_relative_map_takes_the_share_of_the_phrases_channels_off():
    supports = np.arange(CHANNELS) < 6
    message = painter().group(0, FIRST, supports)
    amounts = np.abs(MAPS.mean(axis=(1, 2)))
    share = amounts[:6].sum() / amounts.sum()
    wanted = MAPS[:6].sum(axis=0) - share * MAPS.sum(axis=0)
    np.testing.assert_allclose(values(message.relative_map), wanted, rtol=1e-4, atol=1e-5)


def test_without_groups_or_maps_a_group_has_numbers_alone():
    supports = np.ones(CHANNELS, bool)
    for made in (painter(groups=False), painter(types_pb.HEATMAP_FORM_NONE)):
        message = made.group(0, FIRST, supports)
        assert message.evidence
        assert not message.HasField("saliency_map")
        assert not message.HasField("relative_map")


def test_each_form_of_heatmap_has_its_field_in_the_size_of_the_image():
    image, overlay = pb.Explanation(), pb.Explanation()
    painter(types_pb.HEATMAP_FORM_IMAGE).paint(image, MAPS.sum(axis=0))
    painter(types_pb.HEATMAP_FORM_OVERLAY).paint(overlay, MAPS.sum(axis=0))
    assert tuple(image.heatmap.image.shape) == (20, 30)
    assert len(set(image.heatmap.image.data)) > 5
    drawn = Image.open(io.BytesIO(overlay.heatmap.overlay_png))
    assert drawn.size == (30, 20)
    assert (np.asarray(drawn) != np.asarray(OUTPUT.image)).any()
    plain = pb.Explanation()
    painter().paint(plain, MAPS.sum(axis=0))
    assert plain.HasField("saliency_map")
    assert not plain.HasField("heatmap")
