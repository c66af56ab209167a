"""Truths that a bundle cannot be judged by, and how many images are held."""

import weakref

import pytest
from textcam_service.errors import InvalidTruth
from textcam_service.offline.evaluation import run
from textcam_service.offline.evaluation.cases import (
    Case,
    Truth,
    observed,
)
from toy_bundle import corner_picture, toy_bundle


def toy_case(name="a", **told):
    return Case(name, corner_picture(), **told)


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (Truth([toy_case(class_index=2)]), "names class 2, but the backbone's classes are 0 to 1"),
        (Truth([toy_case()], {7: frozenset({"red"})}), "names class 7"),
        (Truth([toy_case()], {-1: frozenset({"red"})}), "names class -1"),
        (Truth([toy_case(phrases=frozenset({"dog"}))]), r"none of the true phrases \('dog'\)"),
    ],
)
def test_a_truth_of_other_classes_or_other_words_is_refused(truth, said):
    with pytest.raises(InvalidTruth, match=said):
        run.evaluate(toy_bundle(), truth)


def test_true_phrases_that_cannot_be_named_are_noted_and_letter_case_is_not_asked_for():
    true = frozenset({"RED", "dog", "Cat"})
    report = run.evaluate(toy_bundle(), Truth([toy_case(phrases=true)]))
    assert report["words"]["TextCAM"]["precision_1"] == 1
    assert "reliability" not in report  # by embeddings there are no probabilities
    assert report["notes"] == [
        "2 of 3 true phrases are not in the vocabulary and cannot be named: 'Cat', 'dog'"
    ]
    assert run.evaluate(toy_bundle(), Truth([toy_case()]))["notes"] == []


def test_of_photographs_no_more_than_two_batches_are_held(monkeypatch):
    """The one that is judged, and the next while it is observed."""
    born = []

    def watched(bundle, cases):
        for batch in observed(bundle, cases):
            born.append(weakref.ref(batch[0].activation_maps))
            assert sum(maps() is not None for maps in born) <= 2
            yield batch

    monkeypatch.setattr(run, "observed", watched)
    report = run.evaluate(toy_bundle(), Truth([toy_case(str(place)) for place in range(130)]))
    assert (len(born), report["judged"]) == (5, 130)
