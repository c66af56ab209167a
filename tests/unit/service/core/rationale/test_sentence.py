"""Sentences of calibrated phrases: chance, share and effect, in the order of saying."""

from dataclasses import replace

from small_results import rationale
from textcam_service.core.rationale.sentence import sentence
from textcam_service.core.types import Prediction

CAT, DOG = Prediction(0, "cat", 0.9, 3.0), Prediction(1, "dog", 0.1, 0.8)


def saying(*phrases, **changes):
    """A rationale of phrases: text, probability, share and effect, in the order of saying."""
    made = rationale()
    own = tuple(
        replace(made.phrases[0], text=text, probability=chance, evidence=share, effect=effect)
        for text, chance, share, effect in phrases
    )
    given = {"logit": 3.0, "bias": 0.5, "gap": 0.0, "rest": replace(made.rest, evidence=0.4)}
    return replace(made, **{**given, "phrases": own, **changes})


def test_calibrated_phrases_are_said_in_their_order_with_chance_share_and_effect():
    made = saying(("striped fur", 0.92, -0.04, 1.2), ("long whiskers", 0.805, 2.6, 2.61))
    assert sentence(CAT, None, made) == (
        "'cat' (90%): the model saw striped fur (92% likely, share +0.0, effect +1.2) and long "
        "whiskers (80% likely, share +2.6, effect +2.6); other channels add +0.4 and the bias +0.5 "
        "to make the logit +3.0. Shares and other channels add up; an effect counts all channels "
        "by how far they support the phrase, and effects overlap."
    )


def test_a_contrast_says_rather_than_what():
    said = sentence(CAT, DOG, saying(("fur", 0.9, 2.1, 2.5)))
    assert said.startswith("'cat' rather than 'dog' (90%): the model saw fur (90% likely, ")
    assert "to make the difference of logits +3.0." in said


def test_on_a_scale_of_its_own_shares_and_effects_are_parts_of_all_evidence():
    made = saying(("fur", 0.9, 3e-4, 6e-4), in_logit_units=False)
    made = replace(made, rest=replace(made.rest, evidence=-1e-4))
    assert "fur (90% likely, share +75%, effect +150%); other channels add -25%, in shares of " in (
        sentence(CAT, None, made)
    )


def test_what_the_method_leaves_open_is_said_of_calibrated_phrases_too():
    said = sentence(CAT, None, saying(("fur", 0.9, 2.1, 2.5), gap=0.6))
    assert "; of the logit +3.0 the method leaves +1.1 open. Shares and other" in said


def test_without_probabilities_a_phrase_has_its_share_alone():
    said = sentence(CAT, None, saying(("fur", None, 2.1, 2.5)))
    assert said == (
        "'cat' (90%): the model saw fur (+2.1); other channels add +0.4 and the bias +0.5 to make "
        "the logit +3.0."
    )


def test_what_is_less_than_even_is_said_as_possible_and_never_as_impossible():
    said = sentence(CAT, None, saying(("frog", 0.002, 0.1, 0.1), ("fur", 0.999, 0.2, 0.2)))
    assert "the model saw possibly frog (<1% likely, " in said
    assert "and fur (>99% likely, " in said
