"""Concepts and their evidence."""

import numpy as np
from textcam_client.audit.records.concepts import Concepts, SparseRows


def test_each_channel_counts_for_the_phrase_that_it_supports_most():
    concepts = Concepts([2, 0, 2, -1], ["fur", "snow", "beak"])
    assert (len(concepts), concepts.names) == (2, ("fur", "beak"))
    assert concepts.of_phrases(np.array([0, 1, 2])).tolist() == [0, -1, 1]
    rows, channels = np.array([0, 0, 0, 0, 2]), np.array([0, 1, 2, 3, 1], np.int32)
    values = np.array([1.0, 2.0, -4.0, 8.0, 16.0], np.float32)
    assert concepts.evidence(3, rows, channels, values).tolist() == [[2, -3], [0, 0], [16, 0]]


def test_a_model_without_concepts_has_empty_evidence():
    concepts = Concepts([-1, -1], ["fur"])
    found = concepts.evidence(
        2, np.array([0]), np.array([1], np.int32), np.array([1.0], np.float32)
    )
    assert found.shape == (2, 0)


def test_rows_are_joined_to_one_matrix_and_given_zeros_are_kept():
    rows = SparseRows(3)
    rows.add_dense(np.array([[0.0, 1, 0], [2, 0, 3]]))
    rows.add(2, np.array([1, 1]), np.array([2, 0]), np.array([0.0, 5.0]))
    matrix = rows.finish()
    assert matrix.toarray().tolist() == [[0, 1, 0], [2, 0, 3], [0, 0, 0], [5, 0, 0]]
    assert (matrix.nnz, matrix.dtype) == (5, np.float32)
    assert SparseRows(3).finish().shape == (0, 3)
