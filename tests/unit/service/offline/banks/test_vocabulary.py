"""Another vocabulary for a bank: what it keeps, and what it cannot take."""

from types import SimpleNamespace

import numpy as np
import pytest
from textcam_service.artefacts.bank import ConceptBank, Vocabulary, write_bank
from textcam_service.errors import BundleMismatch
from textcam_service.offline.banks.attribute_tables import Tables
from textcam_service.offline.banks.vocabulary import replace_vocabulary

KNOWN = Vocabulary(("fur", "red"), np.eye(2, 4, dtype=np.float32), "e", ("part", "colour"))


class Embedder:
    identity, dimension, logit_scale = "e", 4, 1.0

    def __init__(self):
        self.given = set()

    def embed_texts(self, texts):
        self.given |= set(texts)
        return np.tile(np.float32([0, 0, 0, 1]), (len(texts), 1))


@pytest.fixture
def folder(tmp_path):
    bank = ConceptBank(
        np.eye(3, 4), np.zeros(3, bool), np.ones(4, np.float32), np.ones(3), "sha256:b", "e", {}
    )
    write_bank(tmp_path / "bank", bank, KNOWN)
    return tmp_path / "bank"


def test_known_phrases_keep_their_embedding_and_kind_and_new_ones_are_embedded(folder, tmp_path):
    embedder = Embedder()
    found, ungrounded = replace_vocabulary(folder, embedder, ("new", "red"), tmp_path / "other")
    assert found.vocabulary.phrases == ("new", "red")
    assert found.vocabulary.embeddings.tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]]
    assert found.vocabulary.kinds == ("", "colour")
    assert ungrounded == ()
    assert "new" in embedder.given
    assert not any("red" in text for text in embedder.given)


def test_kinds_that_are_given_go_before_known_ones(folder, tmp_path):
    found, _ = replace_vocabulary(
        folder, Embedder(), ("Red", "fur"), tmp_path / "other", kinds=("", "texture")
    )
    assert found.vocabulary.kinds == ("", "texture")
    found, _ = replace_vocabulary(folder, Embedder(), ("new",), tmp_path / "none", kinds=("",))
    assert found.vocabulary.kinds == ()


def test_another_embedder_or_backbone_is_refused(folder, tmp_path):
    other = Embedder()
    other.identity = "another"
    with pytest.raises(BundleMismatch, match="built with e, and this embedder is another"):
        replace_vocabulary(folder, other, ("red",), tmp_path / "other")
    backbone = SimpleNamespace(manifest=SimpleNamespace(weights_digest="sha256:c"))
    with pytest.raises(BundleMismatch, match="for backbone sha256:b, and this one is sha256:c"):
        replace_vocabulary(folder, Embedder(), ("red",), tmp_path / "other", backbone=backbone)
    assert not (tmp_path / "other").exists()


def test_a_table_needs_what_was_kept_of_the_probing_images(folder, tmp_path):
    with pytest.raises(BundleMismatch, match="has no data of its probing images"):
        replace_vocabulary(folder, Embedder(), ("red",), tmp_path / "other", tables=Tables())
