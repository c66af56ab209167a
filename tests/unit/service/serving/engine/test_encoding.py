"""The encoder of those who take results as they are."""

from small_results import IMAGE, job, result
from textcam_service.serving.engine.cancellation import CancellationToken
from textcam_service.serving.engine.encoding import IdentityEncoder


def test_a_result_is_handed_over_as_it_is_whatever_its_size():
    made, encoder = result(), IdentityEncoder()
    encoder.check(job(), IMAGE, 10**9)
    assert encoder.encode(made, CancellationToken(None)) is made
