"""Sparse matrices that grow by rows."""

import numpy as np
from textcam_client.audit.records.sparse_rows import SparseRows


def test_rows_are_joined_to_one_matrix_of_some_columns_and_given_zeros_are_kept():
    rows = SparseRows()
    rows.add(2, np.array([0, 1, 1]), np.array([5, 9, 2]), np.array([1.0, 3.0, 2.0]))
    rows.add(2, np.array([1, 1]), np.array([9, 2]), np.array([0.0, 5.0]))
    matrix = rows.finish(np.array([2, 5, 9]))
    assert matrix.toarray().tolist() == [[0, 1, 0], [2, 0, 3], [0, 0, 0], [5, 0, 0]]
    assert (matrix.nnz, matrix.dtype) == (5, np.float32)


def test_without_rows_the_matrix_is_empty():
    assert SparseRows().finish(np.array([2, 5, 9])).shape == (0, 3)
