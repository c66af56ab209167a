"""Methods as generators: what runs them, and what they are given."""

import numpy as np
import pytest
from textcam_service.core.methods.base import (
    CamTerms,
    Gradient,
    HeadPasses,
    Method,
    MethodInput,
    MethodSettings,
    run_method,
)
from textcam_service.core.vertices import Vertices

MAPS = np.ones((2, 3, 4), np.float32)
INPUT = MethodInput(MAPS, np.zeros(3, np.float32), np.array([1.0, 0, -1]), np.zeros((3, 8, 8)))


def two_queries(inputs, settings):
    gradient = yield Gradient(inputs.class_weights)
    logits = yield HeadPasses(inputs.activation_maps[None])
    return CamTerms(gradient * settings.seed + logits)


def test_each_query_is_sent_its_result_and_the_terms_come_back():
    asked = []

    def answer(query):
        asked.append(query)
        return 2.0 if isinstance(query, Gradient) else 5.0

    method = Method("two", "Two", two_queries, in_logit_units=False)
    terms = run_method(method.queries(INPUT, MethodSettings(seed=10)), answer)
    assert [type(query) for query in asked] == [Gradient, HeadPasses]
    assert terms.weights == 25
    assert terms.in_logit_units is False


def test_an_error_of_a_pass_ends_the_method():
    def answer(query):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        run_method(Method("two", "Two", two_queries).queries(INPUT, MethodSettings()), answer)


def test_a_score_is_the_weighted_sum_of_logits():
    logits = np.array([[1.0, 9, 3], [0, 9, -2]])
    assert INPUT.score(logits).tolist() == [-2, 2]
    assert INPUT.cells == 12


def test_maps_of_vertices_are_placed_on_a_grid_and_others_stay():
    maps = np.random.default_rng(0).random((2, 4, 1)).astype(np.float32)
    assert INPUT.on_grid(MAPS) is MAPS
    vertices = Vertices(np.array([[4.0, 4], [12, 4], [4, 12], [12, 12]]), 16, 16)
    own = MethodInput(maps, INPUT.logits, INPUT.class_weights, INPUT.image, vertices=vertices)
    np.testing.assert_array_equal(own.on_grid(maps), vertices.place(maps))
    assert own.cells == 4
