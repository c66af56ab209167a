"""Descriptions of models can be compared, hashed and printed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from textcam_client.testing import serve_in_memory


@pytest.fixture(scope="module")
def model():
    with serve_in_memory() as server, server.client() as client:
        return client.model()


def test_descriptions_are_hashable_despite_their_mapping_of_parameters(model):
    assert model.provenance.parameters
    again = replace(model, provenance=replace(model.provenance))
    assert len({model, again}) == 1
    other = replace(model.provenance, parameters={"groups": "another"})
    assert hash(other) == hash(model.provenance)
    assert other != model.provenance


def test_a_printed_model_leaves_its_long_lists_out(model):
    shown = repr(model)
    assert model.summary.name in shown
    assert model.class_names[0] not in shown
    assert model.vocabulary[0] not in shown
    assert "bins=" not in shown


def test_descriptions_are_not_changed(model):
    with pytest.raises(FrozenInstanceError):
        model.summary.name = "another"
