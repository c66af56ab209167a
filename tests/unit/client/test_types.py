"""Results are frozen values with numbers, maps and JSON."""

from __future__ import annotations

import copy
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from textcam_client import (
    Contrast,
)


def test_a_contrast_explains_the_difference_of_two_logits(client, png):
    one, other = client.explain(png, target=["daisy", "barn owl"]).explanations
    contrast = client.explain(png, target=Contrast("daisy", "barn owl"))
    assert contrast.logit == pytest.approx(one.logit - other.logit, abs=1e-5)
    assert contrast.reference == other.target
    assert one.reference is None
    np.testing.assert_allclose(
        contrast.saliency_map, one.saliency_map - other.saliency_map, atol=1e-5
    )


def test_channel_evidence_adds_up_to_the_logit_and_to_each_group(client, png):
    answer = client.explain(png, include_channel_evidence=True)
    assert answer.channel_evidence.sum() + answer.bias == pytest.approx(answer.logit, abs=1e-5)
    members = np.array(client.model().channel_phrases)
    for group in answer.groups:
        assert set(group.channel_ids) == set(
            np.flatnonzero(members == group.phrase.vocabulary_index)
        )
        own = answer.channel_evidence[group.channel_ids].sum()
        assert own == pytest.approx(group.evidence, abs=1e-5)
    assert set(answer.digests) == {"pixels", "activations"}
    listed = json.loads(json.dumps(answer.to_dict(arrays=True)))["explanations"][0]
    np.testing.assert_allclose(listed["channel_evidence"], answer.channel_evidence)
    assert client.explain(png).channel_evidence is None


def test_declined_groups_and_maps_are_absent(client, png):
    answer = client.explain(png, include_groups=False, heatmap="none")
    assert answer.groups == ()
    assert answer.phrases
    assert answer.saliency_map is None
    assert answer.rest.saliency_map is None


def test_the_servers_heatmap_agrees_with_the_one_made_here(client, png):
    answer = client.explain(png, heatmap="image")
    for part in (answer, *answer.groups):
        levels = part.server_heatmap
        assert levels.dtype == np.uint8
        assert np.abs(levels / 255 - part.heatmap()).max() <= 0.5 / 255 + 1e-5
    assert answer.server_overlay is None


def test_the_servers_overlay_is_kept_as_a_png(client, png):
    answer = client.explain(png, heatmap="overlay")
    assert Image.open(io.BytesIO(answer.server_overlay)).size == (90, 60)
    assert answer.server_heatmap is None


@pytest.mark.parametrize("again", [copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))])
@pytest.mark.parametrize("kind", [bytes, memoryview, Path, Image.Image, np.ndarray])
def test_copies_are_the_answer_with_its_image_and_read_only(client, png_path, kind, again):
    given = {
        bytes: png_path.read_bytes(),
        memoryview: memoryview(png_path.read_bytes()),
        Path: png_path,
        Image.Image: Image.open(png_path),
        np.ndarray: np.asarray(Image.open(png_path)),
    }[kind]
    answer = client.explain(given, heatmap="image")
    twin = again(answer)
    assert twin.to_dict(arrays=True) == answer.to_dict(arrays=True)
    (ours,), (theirs,) = answer.explanations, twin.explanations
    assert ours.overlay().tobytes() == theirs.overlay().tobytes()
    for part in (theirs, *theirs.groups, theirs.rest):
        assert not part.saliency_map.flags.writeable
        assert not part.server_heatmap.flags.writeable
        assert part is theirs or not part.channel_ids.flags.writeable


def test_to_dict_is_json_and_has_arrays_only_when_asked_for(client, png):
    answer = client.explain(png, request_id="r")
    short = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert short["request_id"] == "r"
    target = short["explanations"][0]
    assert target["logit"] == answer.logit
    assert "saliency_map" not in target
    assert target["groups"][0]["phrase"] == answer.phrases[0].text
    assert short["provenance"]["parameters"] == {"groups": "greedy"}
    full = json.loads(json.dumps(answer.to_dict(arrays=True), allow_nan=False))
    np.testing.assert_array_equal(
        np.float32(full["explanations"][0]["groups"][0]["saliency_map"]),
        answer.groups[0].saliency_map,
    )


def test_a_printed_answer_has_its_numbers_and_words_but_no_arrays(client, png):
    answer = client.explain(png, heatmap="image")
    printed = repr(answer)
    assert "array(" not in printed
    assert answer.phrases[0].text in printed
    assert len(printed) < 5000


def test_answers_are_frozen_down_to_their_arrays(client, png):
    answer = client.explain(png)
    with pytest.raises(AttributeError):
        answer.request_id = "other"
    with pytest.raises(ValueError, match="read-only"):
        answer.saliency_map[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        answer.rest.channel_ids[0] = 1
