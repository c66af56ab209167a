"""Tokenizers from folders, and their part of an embedder's identity."""

import numpy as np
import open_clip
import pytest
import tiny_clips
from open_clip.tokenizer import SimpleTokenizer
from textcam_service.errors import EmbedderError
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.embedders.openclip_identity import tokenizer_digest

TEXT = {**tiny_clips.CONFIG["text_cfg"], "hf_tokenizer_name": "someone/words"}
WORDS = ["red", "green", "cat"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the weights of a model whose tokenizer's name leads to a hub."""
    path = tiny_clips.register(
        tmp_path, "textcam-words", {**tiny_clips.CONFIG, "text_cfg": TEXT}
    ).rename(tmp_path / "weights.pt")
    tiny_clips.add_tags(monkeypatch, "textcam-words", made={"file": str(path), **tiny_clips.OPENAI})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def test_a_tokenizer_comes_from_the_checkpoints_folder(folder):
    (folder / "textcam-words.json").rename(folder.parent / "elsewhere.json")
    tiny_clips.save_tokenizer(folder, WORDS)
    embedder = load_embedder(f"open_clip:textcam-words:made@{folder}")
    red, other, unknown = embedder.embed_texts(["red", "green", "blue"])
    assert embedder._tokenizer(["red cat blue"])[0, :4].tolist() == [2, 4, 1, 0]
    assert min(np.abs(red - other).max(), np.abs(red - unknown).max()) > 1e-3
    tiny_clips.save_tokenizer(folder, WORDS[::-1])
    assert load_embedder(f"open_clip:textcam-words:made@{folder}").identity != embedder.identity


def test_a_tokenizer_that_nothing_holds_says_where_to_put_it(folder):
    with pytest.raises(EmbedderError, match=r"tokenizer of .*words.*into the checkpoint's folder"):
        load_embedder(f"open_clip:textcam-words:made@{folder}/weights.pt")


def test_a_published_folders_tokenizer_is_its_own(tmp_path):
    folder = tiny_clips.save_folder(tmp_path / "clip", text_cfg=TEXT)
    with pytest.raises(EmbedderError, match="the tokenizer of local-dir:"):
        load_embedder(f"open_clip:local-dir:{folder}")
    tiny_clips.save_tokenizer(folder, WORDS)
    embedder = load_embedder(f"open_clip:local-dir:{folder}")
    assert embedder._tokenizer(["red cat blue"])[0, :4].tolist() == [2, 4, 1, 0]
    tiny_clips.save_tokenizer(folder, ["red", "green", "cat", "blue"])
    assert load_embedder(f"open_clip:local-dir:{folder}").identity != embedder.identity


def test_a_digest_tells_vocabulary_cleaning_and_length(tmp_path):
    plain = tokenizer_digest(open_clip.get_tokenizer("ViT-B-32"))
    others = [
        SimpleTokenizer(clean="canonicalize"),
        SimpleTokenizer(clean="whitespace"),
        SimpleTokenizer(context_length=32),
        SimpleTokenizer(additional_special_tokens=["<cls>"]),
    ]
    assert tokenizer_digest(SimpleTokenizer()) == plain
    assert len({plain, *(tokenizer_digest(one) for one in others)}) == 5
