"""Results: what they list and how many maps they have."""

from dataclasses import replace

import pytest
from small_results import job, result


@pytest.mark.parametrize(
    ("count", "names"), [(0, []), (2, ["cat", "dog"]), (9, ["cat", "dog", "bird"])]
)
def test_as_many_predictions_are_listed_as_the_job_asks_for(count, names):
    found = result(job=job(prediction_count=count)).predictions
    assert [prediction.class_name for prediction in found] == names


def test_maps_are_the_wholes_and_with_groups_each_group_and_the_rest():
    one = result()
    assert one.map_count == 1 + 2 + 1
    two = replace(one, explanations=one.explanations * 2)
    assert two.map_count == 2 * one.map_count
    assert replace(two, job=job(include_groups=False)).map_count == 2
