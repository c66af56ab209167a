"""Numbers of a result in words."""

from __future__ import annotations

import pytest
from textcam_client import Contrast
from textcam_client.figure import wording
from textcam_client.types import Phrase


@pytest.mark.parametrize(
    ("probability", "words"),
    [(None, ""), (0.0, "<1%"), (0.004, "<1%"), (0.5, "50%"), (0.99, "99%"), (0.999, ">99%")],
)
def test_a_chance_is_never_0_or_100_percent(probability, words):
    assert wording.chance(Phrase("fur", 0, 1.0, 0.5, 1.0, probability=probability)) == words


@pytest.mark.parametrize(("value", "words"), [(-0.04, "0.0"), (1.26, "1.3"), (-2.0, "-2.0")])
def test_a_number_that_rounds_to_zero_has_no_minus(value, words):
    assert wording.number(value) == words


def test_the_parts_add_up_to_the_explained_number(client, png):
    result = client.explain(png)
    explanation = result.explanation
    total = wording.whole_evidence(explanation) + explanation.bias + explanation.gap
    assert total == pytest.approx(explanation.logit, abs=1e-4)
    assert wording.sums(explanation).endswith(f"= logit {explanation.logit:.1f}")


def test_a_contrast_explains_a_difference_of_logits(client, png):
    explanation = client.explain(png, target=Contrast("goldfish", "daisy")).explanation
    assert wording.explained(explanation) == "difference of logits"
