"""Sources of phrases: which of them grounds what."""

from types import SimpleNamespace

import numpy as np
import pytest
from textcam_service.artefacts.bank import Vocabulary
from textcam_service.offline.banks.attribute_tables import Tables, imagenet_names, packaged_table
from textcam_service.offline.banks.phrase_sources import PhraseSources, ground_phrases
from textcam_service.offline.banks.probing import Probing

KNOWN = next(iter(packaged_table()))
PHRASES = (KNOWN, "own phrase", "nothing of it")
VOCABULARY = Vocabulary(PHRASES, np.eye(3, 4, dtype=np.float32), "e")
NAMES = ("one", "two")


class Clip:
    identity, dimension, logit_scale = "e", 4, 10.0

    def embed_images(self, images):
        raise NotImplementedError

    def embed_texts(self, texts):
        raise NotImplementedError


class Classifier(Clip):
    def classify(self, images):
        raise NotImplementedError

    def embed_logits(self, logits):
        raise NotImplementedError


def sources(embedder, labels=(-1, -1, -1), tables=None, *, multi_label=False):
    rng = np.random.default_rng(0)
    classes = 1000 if isinstance(embedder, Classifier) else 0
    probing = Probing(
        np.ones((3, 2), np.float32),
        np.ones((3, 2), np.float32),
        np.float32([[4, 0], [0, 4], [4, 0]]),
        np.eye(3, 4, dtype=np.float32),
        rng.normal(size=(3, classes)).astype(np.float32),
        np.array(labels),
    )
    backbone = SimpleNamespace(manifest=SimpleNamespace(class_names=NAMES, multi_label=multi_label))
    return PhraseSources(probing, backbone, embedder, tables or Tables())


def grounded(opinions):
    return [p for p, known in zip(PHRASES, opinions.grounded, strict=True) if known]


def test_a_clip_grounds_every_phrase():
    found = ground_phrases(sources(Clip()), VOCABULARY)
    assert found.source == "image_text_scores"
    assert grounded(found) == list(PHRASES)


def test_a_classifier_grounds_the_phrases_of_the_packaged_table():
    found = ground_phrases(sources(Classifier()), VOCABULARY)
    assert found.source == "class_table"
    assert grounded(found) == [KNOWN]


def test_a_users_lines_of_imagenet_are_read_beside_the_packaged_ones_in_any_letter_case():
    tables = Tables(imagenet={"OWN phrase": {3: 0.5}, KNOWN.upper(): {7: 1.0}})
    found = ground_phrases(sources(Classifier(), tables=tables), VOCABULARY)
    assert grounded(found) == [KNOWN, "own phrase"]


@pytest.mark.parametrize(
    ("labels", "source", "second"),
    [((0, 1, 1), "labels+class_table", 0.9), ((-1, -1, -1), "own_predictions+class_table", 0.9)],
)
def test_a_table_of_the_own_classes_goes_first(labels, source, second):
    tables = Tables(own={"own phrase": {1: 0.9}})
    found = ground_phrases(sources(Classifier(), labels, tables), VOCABULARY)
    assert found.source == source
    assert grounded(found) == [KNOWN, "own phrase"]
    column = found.labels[:, 1]
    assert column[1] == pytest.approx(second, abs=0.02)
    assert column[0] == pytest.approx(0, abs=0.02)
    # Where a label is given it decides, whatever the network predicts.
    assert column[2] == pytest.approx(0.9 if labels[2] == 1 else 0, abs=0.02)


def test_a_phrase_is_true_of_an_image_if_it_is_so_of_any_label_that_the_network_sees():
    """Logits 4 and 0: the labels are present with 0.982 and 0.5."""
    tables = Tables(own={"own phrase": {0: 0.2, 1: 0.9}})
    found = ground_phrases(sources(Clip(), tables=tables, multi_label=True), VOCABULARY)
    sure, even = 1 / (1 + np.exp(-4)), 0.5
    wanted = [1 - (1 - 0.2 * sure) * (1 - 0.9 * even), 1 - (1 - 0.2 * even) * (1 - 0.9 * sure)]
    assert found.labels[:2, 1] == pytest.approx(wanted, abs=0.01)
    labelled = ground_phrases(
        sources(Clip(), (0, 1, 1), tables=tables, multi_label=True), VOCABULARY
    )
    assert labelled.labels[:, 1] == pytest.approx([0.2, 0.9, 0.9], abs=0.01)


def test_a_head_of_imagenets_names_whose_labels_do_not_exclude_each_other_takes_no_table():
    names = imagenet_names()
    for multi_label in (False, True):
        given = sources(Classifier(), multi_label=multi_label)
        given.backbone.manifest.class_names = names
        assert (ground_phrases(given, VOCABULARY).reference is None) == multi_label
