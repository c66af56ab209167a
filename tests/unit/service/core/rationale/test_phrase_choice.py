"""What is said of an image, on cases made by hand."""

import numpy as np
import pytest
from textcam_service.core.rationale.phrase_choice import Candidates, choose
from textcam_service.core.rationale.settings import RationaleSettings

SETTINGS = RationaleSettings(min_new=0.38, min_more=0.45)
# A cue, another name for it, a mixture of the cue with a second one, and the second one alone.
CUE, NAME, MIXTURE, SECOND = range(4)
SCORES = np.array([5.0, 4.9, 4.0, 1.2])


def explained_by(pairs, size):
    """Likeness (V, V): 1 with itself, and as `pairs` say, both ways."""
    found = np.eye(size)
    for (one, other), value in pairs.items():
        found[one, other] = found[other, one] = value
    return found


CUES = explained_by(
    {
        (CUE, NAME): 0.9,
        (CUE, MIXTURE): 0.5,
        (NAME, MIXTURE): 0.85,
        (CUE, SECOND): 0.1,
        (NAME, SECOND): 0.1,
        (MIXTURE, SECOND): 0.6,
    },
    4,
)


def chosen(scores, likeness, count=5, worth=None, able=None, settings=SETTINGS, apart=None):
    able = np.ones(len(scores), bool) if able is None else np.array(able)
    worth = scores if worth is None else np.array(worth)
    candidates = Candidates(worth, scores, able, likeness, apart)
    return choose(candidates, count, settings).tolist()


def test_a_second_cue_comes_before_its_mixture_with_the_first():
    """Although by what the first phrase explains alone, the mixture would be newer."""
    newness = (SCORES - CUES[:, CUE] * SCORES[CUE]) / np.sqrt(SCORES)
    assert newness[MIXTURE] > newness[SECOND] > SETTINGS.min_new
    assert chosen(SCORES, CUES, 2) == [CUE, SECOND]
    # Then more about what is said: of the mixture 4.0 - 2.5 is left, of the name 4.9 - 4.5.
    assert chosen(SCORES, CUES) == [CUE, SECOND, MIXTURE]
    # With the name said too, nothing of the mixture is: 0.85 x 4.9 explain it.
    less = RationaleSettings(min_new=0.38, min_more=0.39)
    assert chosen(SCORES, CUES, settings=less) == [CUE, SECOND, NAME]


def test_without_another_name_for_the_first_the_mixture_is_what_is_new():
    able = [True, False, True, True]
    assert chosen(SCORES, CUES, 2, able=able) == [CUE, MIXTURE]


def test_nothing_that_may_be_said_is_an_answer():
    assert chosen(SCORES, CUES, able=[False] * 4) == []


def test_at_most_so_many_are_said():
    assert chosen(SCORES, np.eye(4), 1) == [CUE]
    assert len(chosen(np.linspace(3, 2, 9), np.eye(9), 6)) == 6


def test_the_worthiest_is_said_first_whatever_its_score():
    scores = np.array([2.0, 3.0, 1.0])
    assert chosen(scores, np.eye(3), worth=[0.1, 0.2, 0.9])[0] == 2
    # What is new goes by the score, over its root.
    assert chosen(scores, np.eye(3), worth=[0.1, 0.2, 0.9]) == [2, 1, 0]


def test_ties_go_to_the_lower_place():
    assert chosen(np.full(4, 2.0), np.eye(4), 3) == [0, 1, 2]


def test_phrases_that_say_the_same_are_not_said_together():
    apart = np.zeros((3, 3), bool)
    apart[0, 1] = apart[1, 0] = True
    scores = np.array([3.0, 2.9, 1.0])
    assert chosen(scores, np.eye(3)) == [0, 1, 2]
    assert chosen(scores, np.eye(3), apart=apart) == [0, 2]
    assert chosen(scores, np.eye(3), apart=apart, able=[False, True, True]) == [1, 2]


@pytest.mark.parametrize(("min_new", "said"), [(0.49, [0, 1]), (0.51, [0])])
def test_what_is_new_must_be_so_by_a_margin(min_new, said):
    """Of a score of 4, three quarters are explained: 1 over the root of 4."""
    likeness = explained_by({(0, 1): 3.0 / 8.0}, 2)
    settings = RationaleSettings(min_new=min_new, min_more=10)
    assert chosen(np.array([8.0, 4.0]), likeness, settings=settings) == said


def test_more_is_said_in_the_order_of_worth_until_it_is_explained():
    """What the first explains leaves 0.6, 0.6 and 0.4 of scores that are too high to be new."""
    scores = np.array([9.0, 4.0, 4.0, 4.0])
    likeness = explained_by({(0, 1): 3.4 / 9, (0, 2): 3.4 / 9, (0, 3): 3.6 / 9}, 4)
    assert chosen(scores, likeness, worth=[9, 1, 3, 2]) == [0, 2, 1]
    likeness = explained_by({**{(0, k): 3.4 / 9 for k in (1, 2)}, (1, 2): 0.9}, 4)
    assert chosen(scores[:3], likeness[:3, :3], worth=[9, 1, 3]) == [0, 2]
