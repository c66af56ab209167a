import numpy as np
from textcam_service.core.concepts.attributes import ClassAttributes

TABLE = np.array([[0.0, 0.9, 0.1], [0.0, 0.0, 0.0], [1.0, 0.0, 0.5]], np.float32)


def test_a_table_keeps_its_entries_and_is_given_back():
    made = ClassAttributes.of(TABLE)
    assert made.classes.tolist() == [0, 0, 2, 2]
    assert made.phrases.tolist() == [1, 2, 0, 2]
    np.testing.assert_array_equal(made.dense(), TABLE)


def test_classes_are_mixed_by_their_weights():
    made = ClassAttributes.of(TABLE)
    weights = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(made.mixed(weights), weights @ TABLE, rtol=1e-6)


def test_a_table_without_entries_mixes_to_nothing():
    assert ClassAttributes.of(np.zeros((2, 4))).mixed(np.ones(2)).tolist() == [0, 0, 0, 0]
