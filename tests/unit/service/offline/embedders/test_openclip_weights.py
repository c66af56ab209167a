"""What a CLIP computes, by tag, path, folder and repository; against open_clip called by hand."""

import numpy as np
import open_clip
import pytest
import tiny_clips
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from textcam_service.errors import BundleMismatch, EmbedderError
from textcam_service.offline.embedders.base import require_embedder
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.networks.loading import state_digest
from torch import nn

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 90, 3), np.uint8))
NAME = "textcam-tagged"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The path of a model's weights, which two tags and one of a second model name too."""
    path = tiny_clips.register(tmp_path, NAME)
    tiny_clips.register(tmp_path, f"{NAME}-quickgelu", {**tiny_clips.CONFIG, "quick_gelu": True})
    told = {"file": str(path), **tiny_clips.OPENAI}
    quick = {**told, "quick_gelu": True}
    squashed = {"file": str(path), **tiny_clips.SQUASHED}
    tiny_clips.add_tags(monkeypatch, NAME, plain=told, quick=quick, squashed=squashed)
    tiny_clips.add_tags(monkeypatch, f"{NAME}-quickgelu", quick=quick)
    return path


def by_hand(path, preprocessing=tiny_clips.OPENAI, *, quick=False, **config):
    """The unit embedding of the picture, out of open_clip's own parts."""
    model = open_clip.CLIP(**{**tiny_clips.CONFIG, **config, "quick_gelu": quick}).eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    prepare = image_transform_v2(PreprocessCfg(size=32, **preprocessing), is_train=False)
    with torch.inference_mode():
        return nn.functional.normalize(model.encode_image(prepare(PICTURE)[None])).numpy()


@pytest.mark.parametrize("given", ["quick", "quick@{}"])
def test_weights_of_quickgelu_are_computed_with_it(weights, given):
    embedder = load_embedder(f"open_clip:{NAME}:{given.format(weights)}")
    found = embedder.embed_images([PICTURE])
    np.testing.assert_allclose(found, by_hand(weights, quick=True), atol=1e-5)
    assert np.abs(found - by_hand(weights)).max() > 1e-3
    named = load_embedder(f"open_clip:{NAME}-quickgelu:{weights}")
    assert embedder.identity == named.identity


@pytest.mark.parametrize("given", ["squashed", "squashed@{}"])
def test_a_checkpoint_with_its_tag_is_fed_as_the_tag_is(weights, given):
    embedder = load_embedder(f"open_clip:{NAME}:{given.format(weights)}")
    found = embedder.embed_images([PICTURE])
    np.testing.assert_allclose(found, by_hand(weights, tiny_clips.SQUASHED), atol=1e-5)
    assert np.abs(found - by_hand(weights)).max() > 1e-3


def test_a_checkpoint_alone_is_refused_where_tags_differ(weights):
    with pytest.raises(EmbedderError, match=f"open_clip:{NAME}:TAG@{weights}"):
        load_embedder(f"open_clip:{NAME}:{weights}")


def test_parts_are_stretched_by_the_towers_own_filter(weights):
    embedder = load_embedder(f"open_clip:{NAME}:squashed")
    whole = embedder.embed_parts([PICTURE], [np.array([[0.0, 0.0, 1.0, 1.0]])])
    np.testing.assert_allclose(whole, embedder.embed_images([PICTURE]), atol=1e-5)


def test_an_identity_tells_preprocessing_and_keeps_its_form_without(weights):
    model = open_clip.CLIP(**tiny_clips.CONFIG)
    model.load_state_dict(torch.load(weights, weights_only=True))
    specs = ["plain", f"plain@{weights}", "quick", "squashed", f"squashed@{weights}"]
    plain, path, quick, squashed, squashed_path = (
        load_embedder(f"open_clip:{NAME}:{spec}") for spec in specs
    )
    assert plain.identity == path.identity == f"open_clip/{NAME}@{state_digest(model)}"
    assert squashed.identity == squashed_path.identity
    assert len({plain.identity, quick.identity, squashed.identity}) == 3


def test_a_bank_of_the_same_weights_otherwise_used_says_so(weights):
    plain, quick = (load_embedder(f"open_clip:{NAME}:{tag}") for tag in ("plain", "quick"))
    require_embedder(plain, plain.identity)
    with pytest.raises(BundleMismatch, match=r"the weights are the same; .*build the bank again"):
        require_embedder(quick, plain.identity)


def test_a_published_folder_is_loaded_with_its_configuration(tmp_path):
    folder = tiny_clips.save_folder(tmp_path / "clip", quick_gelu=True)
    path = folder / "open_clip_pytorch_model.bin"
    embedder = load_embedder(f"open_clip:local-dir:{folder}")
    expected = by_hand(path, tiny_clips.SQUASHED, quick=True)
    np.testing.assert_allclose(embedder.embed_images([PICTURE]), expected, atol=1e-5)
    moved = folder.rename(tmp_path / "moved")
    assert load_embedder(f"open_clip:local-dir:{moved}").identity == embedder.identity
    tiny_clips.save_folder(moved)
    assert load_embedder(f"open_clip:local-dir:{moved}").identity != embedder.identity
    tiny_clips.save_folder(moved, tiny_clips.OPENAI, quick_gelu=True)
    assert load_embedder(f"open_clip:local-dir:{moved}").identity != embedder.identity


def test_a_repository_is_loaded_as_its_folder_is(tmp_path, monkeypatch):
    folder = tiny_clips.save_folder(tmp_path / "clip")

    def fetch(repo_id, filename, **_options):
        assert repo_id == "someone/clip"
        if not (folder / filename).is_file():
            raise OSError(filename)
        return str(folder / filename)

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", fetch)
    embedder = load_embedder("open_clip:hf-hub:someone/clip")
    local = load_embedder(f"open_clip:local-dir:{folder}")
    assert embedder.identity == local.identity
    np.testing.assert_array_equal(embedder.embed_texts(["red"]), local.embed_texts(["red"]))
    (folder / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(EmbedderError, match="cannot load hf-hub:someone/clip"):
        load_embedder("open_clip:hf-hub:someone/clip")
