"""What is thought of phrases in the probing images, source by source, by hand."""

import numpy as np
import pytest
from scipy.special import softmax
from textcam_service.core.concepts.soft_labels import soft_labels
from textcam_service.offline.banks.grounding import (
    by_class_table,
    by_labels,
    by_scores,
    first_grounded,
    recognition,
    repeated_names,
    same_text,
)

TABLE = {"fur": {0: 0.87, 1: 0.52}, "wings": {2: 0.87}}
PHRASES = ("fur", "wings", "wheels")
ROWS = np.array([[0.87, 0, 0], [0.52, 0, 0], [0, 0.87, 0]])
RNG = np.random.default_rng(0)


def test_a_classifiers_opinion_is_mixed_into_the_tables_rows():
    logits = RNG.normal(0, 2, (40, 3))
    found = by_class_table(logits, TABLE, PHRASES, of_head=False)
    labels = softmax(logits / 0.6, axis=1) @ ROWS
    np.testing.assert_allclose(found.labels, labels, atol=1e-6)
    np.testing.assert_allclose(found.values, softmax(logits / 3.0, axis=1) @ ROWS, atol=1e-6)
    # How common a phrase is: half by the images, half by the classes.
    assert found.prior == pytest.approx((labels.mean(axis=0) + ROWS.mean(axis=0)) / 2)
    assert found.grounded.tolist() == [True, True, False]
    assert found.alike[:2, :2] == pytest.approx(np.corrcoef(ROWS[:, :2].T), abs=1e-5)
    assert (found.source, found.table, found.reference) == ("class_table", None, None)


def test_a_table_of_the_heads_own_classes_comes_with_the_classifiers_probabilities():
    logits = RNG.normal(0, 2, (40, 3))
    found = by_class_table(logits, TABLE, PHRASES, of_head=True)
    np.testing.assert_allclose(found.table, ROWS, atol=1e-6)
    np.testing.assert_allclose(found.reference, softmax(logits / 0.6, axis=1), atol=1e-6)


@pytest.mark.parametrize(("labelled", "source"), [(True, "labels"), (False, "own_predictions")])
def test_by_labels_a_phrase_is_as_true_as_the_table_says_of_the_images_class(labelled, source):
    shares = np.eye(3)[[0, 0, 1, 2]]
    found = by_labels(shares, TABLE, PHRASES, labelled=labelled)
    np.testing.assert_allclose(found.labels, ROWS[[0, 0, 1, 2]], atol=1e-6)
    assert found.values is found.labels
    assert found.prior == pytest.approx([(2 * 0.87 + 0.52) / 4, 0.87 / 4, 0])
    assert found.source == source
    np.testing.assert_allclose(found.table, ROWS, atol=1e-6)
    assert found.reference is None


def test_a_class_without_images_grounds_its_phrases_by_nothing():
    found = by_labels(np.eye(3)[[0, 1]], TABLE, PHRASES, labelled=True)
    assert found.grounded.tolist() == [True, False, False]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_clip_grounds_every_phrase_by_its_cosines():
    images, texts = unit(RNG.standard_normal((30, 8))), unit(RNG.standard_normal((5, 8)))
    found = by_scores(images, texts, 20.0)
    np.testing.assert_allclose(found.values, images @ texts.T, atol=1e-6)
    np.testing.assert_allclose(found.labels, soft_labels(images @ texts.T, 20.0), atol=1e-5)
    assert found.prior == pytest.approx(found.labels.mean(axis=0))
    assert found.grounded.all()
    assert found.alike == pytest.approx(np.corrcoef((images @ texts.T).T), abs=1e-5)
    assert (found.source, found.table) == ("image_text_scores", None)


def test_each_phrase_is_taken_from_the_first_source_that_knows_it():
    labels = by_labels(np.eye(3)[RNG.integers(0, 2, 30)], TABLE, PHRASES, labelled=True)
    clip = by_scores(unit(RNG.standard_normal((30, 8))), unit(RNG.standard_normal((3, 8))), 20.0)
    found = first_grounded([labels, clip])
    for name in ("values", "labels"):
        np.testing.assert_array_equal(getattr(found, name)[:, 0], getattr(labels, name)[:, 0])
        np.testing.assert_array_equal(getattr(found, name)[:, 1:], getattr(clip, name)[:, 1:])
    assert found.prior.tolist() == [labels.prior[0], *clip.prior[1:]]
    assert found.source == "labels+image_text_scores"
    assert found.alike == pytest.approx(np.corrcoef(found.values.T), abs=1e-5)
    assert found.table is labels.table


def test_a_source_that_adds_nothing_is_not_named():
    clip = by_scores(unit(RNG.standard_normal((30, 8))), unit(RNG.standard_normal((3, 8))), 20.0)
    labels = by_labels(np.eye(3)[[0, 1, 2] * 10], TABLE, PHRASES, labelled=True)
    assert first_grounded([clip, labels]) is clip
    nothing = by_labels(np.eye(3)[[0, 1, 2] * 10], {}, PHRASES, labelled=True)
    assert first_grounded([nothing, clip]).source == "image_text_scores"


def test_pairs_of_phrases_whose_sentences_are_alike_say_the_same():
    texts = unit(np.array([[1, 0], [0.8, 0.6], [0.5, 1.0], [-1, 0.1]]))
    # Cosines: 0.8 of the first two, 0.89 of the second and third, 0.45 of the first and third.
    assert same_text(texts).tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize(
    ("name", "phrase", "repeats"),
    [
        ("tabby, tabby cat", "tabby cat", True),
        ("tabby, tabby cat", "Cats", True),
        ("tabby, tabby cat", "cat face", False),
        ("sports car", "car", True),
        ("sports car", "carriage", False),
        ("go-kart", "go", False),  # of too few letters to tell a class
    ],
)
def test_a_phrase_of_the_names_own_words_repeats_it(name, phrase, repeats):
    found = repeated_names(["barn owl", name], [phrase, "sail"])
    assert found.tolist() == ([[1, 0]] if repeats else [])
    assert found.shape[1:] == (2,)


def test_a_phrase_that_says_the_same_as_the_name_repeats_it():
    names, texts = np.array([[1.0, 0], [0, 1]]), np.array([[0.7, 0.714], [0.6, -0.8]])
    found = repeated_names(["jet", "owl"], ["airplane", "sail"], names, texts)
    assert found.tolist() == [[0, 0], [1, 0]]


def test_recognition_counts_how_often_the_own_name_is_nearest():
    images = np.eye(3, dtype=np.float32)
    assert recognition(images, np.eye(3), np.array([0, 1, 2])) == 1
    assert recognition(images, np.eye(3)[[1, 2, 0]], np.array([0, 1, 2])) == pytest.approx(0.25)
    # A name that is near to every image recognises none.
    same = np.tile(images[:1], (3, 1))
    assert recognition(images, same, np.array([0, 1, 2])) == 0.5
