"""Jobs: how much they ask for, and ids that are too long."""

import pytest
from small_results import job
from textcam_service.errors import InvalidArgument
from textcam_service.serving.engine.jobs import (
    MAX_REQUEST_ID,
    Classes,
    Contrast,
    TopK,
    check_request_id,
)


@pytest.mark.parametrize(
    ("target", "count"), [(TopK(3), 3), (Classes((4, 2)), 2), (Contrast(1, 0), 1)]
)
def test_targets_and_their_least_maps_are_counted(target, count):
    assert job(target=target).target_count == count
    assert job(target=target).min_map_count == 2 * count  # the whole and the rest
    assert job(target=target, include_groups=False).min_map_count == count


def test_an_id_of_the_greatest_length_passes_and_a_longer_one_names_its_field():
    check_request_id("x" * MAX_REQUEST_ID)
    with pytest.raises(InvalidArgument, match="at most 128 characters, not 129") as refused:
        check_request_id("x" * (MAX_REQUEST_ID + 1), "id")
    assert refused.value.field == "id"
