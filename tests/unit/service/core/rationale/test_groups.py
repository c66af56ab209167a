"""Groups of channels, by hand."""

import numpy as np
import pytest
from textcam_service.core.rationale.groups import REST, saliency_groups

MAPS = np.array([[[1.0, 3.0]], [[2.0, 0.0]], [[0.0, 4.0]]], np.float32)
WEIGHTS = np.array([2.0, -1.0, 0.5])
EVIDENCE = np.array([4.0, -1.0, 1.0])
CONTRAST = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]])


@pytest.mark.parametrize("by_position", [False, True])
def test_each_group_has_its_channels_map_and_evidence(by_position):
    weights = WEIGHTS[:, None, None] * np.ones((1, 2)) if by_position else WEIGHTS
    (first, second), rest = saliency_groups(
        np.array([0, 0, REST]), weights, MAPS, EVIDENCE, CONTRAST
    )
    assert (first.phrase_index, second.phrase_index, rest.phrase_index) == (0, 1, REST)
    assert first.channel_ids.tolist() == [0, 1]
    assert (first.evidence, first.evidence_for, first.evidence_against) == (3.0, 4.0, -1.0)
    np.testing.assert_allclose(first.saliency_map, [[0, 6]])
    assert not len(second.channel_ids)
    assert not second.saliency_map.any()
    np.testing.assert_allclose(rest.saliency_map, [[0, 2]])
    assert rest.relative_map is None


def test_relative_maps_weigh_channels_by_contrast_and_have_mean_0():
    """Sizes 2, 1 and 0.5 have mean 7/6: the second's map is (A_1 - 0.5 A_2) / (7/6)."""
    (first, second), _ = saliency_groups(np.array([0, 1, REST]), WEIGHTS, MAPS, EVIDENCE, CONTRAST)
    np.testing.assert_allclose(first.relative_map, [[-12 / 7, 12 / 7]], rtol=1e-5)
    np.testing.assert_allclose(second.relative_map, [[12 / 7, -12 / 7]], rtol=1e-5)


def test_without_phrases_all_channels_are_the_rest():
    groups, rest = saliency_groups(np.full(3, REST), WEIGHTS, MAPS, EVIDENCE, np.zeros((0, 3)))
    assert groups == ()
    assert rest.channel_ids.tolist() == [0, 1, 2]
    assert rest.evidence == 4.0
