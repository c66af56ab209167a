"""`textcam bank vocabulary`: another vocabulary for a bank, and what is refused."""

import numpy as np
import pytest
from commands import run
from small_models import EMBEDDING, write_model
from textcam_service.artefacts.bank import read_bank
from textcam_service.offline.embedders import loading


class Embedder:
    """Unit vectors by the length of a text."""

    identity, dimension, logit_scale = "small", EMBEDDING, 1.0

    def embed_texts(self, texts):
        return np.eye(EMBEDDING, dtype=np.float32)[[len(text) % EMBEDDING for text in texts]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load_embedder", lambda spec: Embedder())
    (tmp_path / "words.txt").write_text("red fur\nwing\n")
    return write_model(tmp_path / "model", 0)


def test_the_bank_is_written_with_the_phrases_of_the_file(folder, tmp_path):
    before = read_bank(folder / "bank")
    code, said = run(
        "bank", "vocabulary", folder / "bank", "--vocabulary", tmp_path / "words.txt",
        "--output", tmp_path / "other",
    )  # fmt: skip
    assert code == 0, said
    assert "2 phrases" in said
    after = read_bank(tmp_path / "other")
    assert after.vocabulary.phrases == ("red fur", "wing")
    np.testing.assert_array_equal(after.bank.channel_embeddings, before.bank.channel_embeddings)


def test_a_table_without_the_backbone_whose_classes_it_names_is_refused(folder, tmp_path):
    code, said = run(
        "bank", "vocabulary", folder / "bank", "--vocabulary", tmp_path / "words.txt",
        "--attributes", tmp_path / "table.json", "--output", tmp_path / "other",
    )  # fmt: skip
    assert code == 2
    assert "--attributes needs --backbone, because the table names its classes" in said
    assert not (tmp_path / "other").exists()
