"""The whole answer, and its shortcuts to the explanation of one target."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
from textcam_client import (
    Contrast,
    ExplainResult,
    Explanation,
    MalformedResponse,
    SeveralTargets,
    TopK,
    pseudo_mask,
)

FIELDS = [field.name for field in dataclasses.fields(Explanation) if field.name[0] != "_"]


@pytest.mark.parametrize("name", FIELDS)
def test_with_one_target_its_fields_are_the_results(client, png, name):
    result = client.explain(png, target=Contrast("daisy", "barn owl"), heatmap="image")
    assert getattr(result, name) is getattr(result.explanation, name)


def test_with_one_target_its_methods_are_the_results(client, png):
    result = client.explain(png)
    (explanation,) = result.explanations
    assert result.explanation is explanation
    for options in ({}, {"size": (20, 30)}, {"smooth": True}):
        np.testing.assert_array_equal(result.heatmap(**options), explanation.heatmap(**options))
    assert result.overlay(opacity=0.5).tobytes() == explanation.overlay(opacity=0.5).tobytes()
    assert result.picture().tobytes() == explanation.picture().tobytes()
    np.testing.assert_array_equal(pseudo_mask(result), pseudo_mask(explanation))


def test_every_public_part_of_an_explanation_has_a_shortcut():
    public = {name for name in vars(Explanation) if name[0] != "_"} | set(FIELDS)
    assert public <= set(dir(ExplainResult))
    for name in ("heatmap", "overlay", "picture"):
        ours = inspect.signature(getattr(ExplainResult, name))
        assert ours == inspect.signature(getattr(Explanation, name))


@pytest.mark.parametrize("name", [*FIELDS, "explanation"])
def test_with_several_targets_a_shortcut_says_what_to_take_instead(client, png, name):
    result = client.explain(png, target=["daisy", "barn owl"])
    told = r"2 targets .*'daisy', 'barn owl'.* result\.explanations\[i\]"
    with pytest.raises(SeveralTargets, match=told):
        getattr(result, name)


def test_with_several_targets_the_maps_have_no_shortcut_but_the_picture_has(client, png, pixels):
    result = client.explain(png, target=TopK(2))
    for draw in (result.heatmap, result.overlay, lambda: pseudo_mask(result)):
        with pytest.raises(SeveralTargets):
            draw()
    np.testing.assert_array_equal(result.picture(), pixels)


def test_an_answer_without_any_target_is_malformed(client, png):
    none = dataclasses.replace(client.explain(png), explanations=())
    for ask in (lambda: none.phrases, none.heatmap, none.picture):
        with pytest.raises(MalformedResponse, match="has no target"):
            ask()
