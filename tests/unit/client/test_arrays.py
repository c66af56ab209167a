"""Copies of results keep their arrays read-only, and maps become JSON."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from textcam_client._arrays import ReadOnlyArrays, to_json_list


class Pair(ReadOnlyArrays):
    def __init__(self):
        self.name, self.values = "pair", np.arange(3.0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda own: pickle.loads(pickle.dumps(own))])
def test_arrays_of_a_copy_are_read_only(copied):
    made = copied(Pair())
    assert made.name == "pair"
    assert made.values.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        made.values[0] = 1


def test_values_that_json_lacks_become_none():
    values = np.array([[0.5, np.nan], [np.inf, -np.inf]], np.float32)
    assert to_json_list(values) == [[0.5, None], [None, None]]
    assert json.loads(json.dumps(to_json_list(values), allow_nan=False))[0][0] == 0.5
    assert to_json_list(None) is None
