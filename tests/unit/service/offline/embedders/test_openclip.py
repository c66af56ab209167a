"""open_clip's embedder with the scenes' small CLIP: unit vectors, in order, in batches."""

import numpy as np
import pytest
from PIL import Image
from textcam_service.errors import EmbedderError
from textcam_service.offline.embedders import openclip
from textcam_service.offline.embedders.openclip import OpenClipEmbedder
from textcam_service.offline.networks.scenes import CLIP_NAME, clip_checkpoint

TEXTS = ("a red cube", "a blue sphere", "a green cone")


@pytest.fixture(scope="module")
def clip():
    return OpenClipEmbedder(*clip_checkpoint())


def pictures():
    colours = [(200, 30, 30), (30, 30, 200), (30, 200, 30)]
    return [Image.new("RGB", (96, 96), colour) for colour in colours]


def assert_unit(vectors, count, clip):
    assert vectors.shape == (count, clip.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_texts_are_unit_vectors_whatever_their_batch(clip, monkeypatch):
    whole = clip.embed_texts(TEXTS)
    assert_unit(whole, 3, clip)
    monkeypatch.setattr(openclip, "_TEXT_BATCH", 2)
    np.testing.assert_allclose(clip.embed_texts(TEXTS), whole, atol=1e-5)
    assert clip.embed_texts([]).shape == (0, clip.dimension)


def test_images_are_unit_vectors_whatever_their_batch(clip, monkeypatch):
    whole = clip.embed_images(pictures())
    assert_unit(whole, 3, clip)
    monkeypatch.setattr(openclip, "_BATCH", 2)
    arrays = [np.asarray(picture) for picture in pictures()]
    np.testing.assert_allclose(clip.embed_images(arrays), whole, atol=1e-5)
    assert clip.embed_images([]).shape == (0, clip.dimension)


def test_the_identity_names_model_and_weights(clip):
    assert clip.identity.startswith(f"open_clip/{CLIP_NAME}@sha256:")
    assert clip.logit_scale > 1


@pytest.mark.parametrize(
    ("model", "pretrained", "said"),
    [
        ("ViT-Z-99", "openai", "open_clip has no model 'ViT-Z-99'"),
        ("ViT-B-32", "absent", "'absent' is neither a file nor a pretrained tag .* its tags: .*op"),
    ],
)
def test_an_unknown_model_or_tag_is_refused(model, pretrained, said):
    with pytest.raises(EmbedderError, match=said):
        OpenClipEmbedder(model, pretrained)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    name, _ = clip_checkpoint()
    (tmp_path / "w.pt").write_bytes(b"no checkpoint")
    with pytest.raises(EmbedderError, match=f"open_clip cannot load {name} with weights"):
        OpenClipEmbedder(name, str(tmp_path / "w.pt"))
