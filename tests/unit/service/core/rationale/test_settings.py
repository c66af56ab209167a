import pytest
from textcam_service.core.rationale.settings import RationaleSettings, WordSettings


@pytest.mark.parametrize(
    "given",
    [
        {"wording": "words"},
        {"sparsity": -0.1},
        {"prior": float("inf")},
        {"min_new": float("nan")},
        {"max_similarity": 1.1},
        {"min_support": -1.1},
        {"min_probability": 1.01},
        {"join": 2},
        {"min_odds": 0.9},
        {"candidates": 0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(given):
    (name,) = given
    with pytest.raises(ValueError, match=name):
        RationaleSettings(**given)


def test_a_server_replaces_only_what_it_states():
    own = RationaleSettings(join=0.3)
    assert WordSettings().over(own) == own
    changed = WordSettings("embeddings", 0.0).over(own)
    assert (changed.wording, changed.min_probability, changed.join) == ("embeddings", 0.0, 0.3)
