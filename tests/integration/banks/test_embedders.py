"""Images and text in one space, from PyPI packages or from open_clip."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from textcam_service.artefacts.bank import read_bank
from textcam_service.artefacts.files import read_artefact
from textcam_service.artefacts.packaged import PHOTOS
from textcam_service.errors import EmbedderError
from textcam_service.imaging.decoding import prepare
from textcam_service.offline.banks.vocabulary import embedded
from textcam_service.offline.embedders.base import TEMPLATES, embed_with_templates
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.embedders.packaged import packaged_texts
from textcam_service.offline.networks.loading import load_network

open_clip = pytest.importorskip("open_clip")

_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def packaged():
    return load_embedder("packaged")


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """(embedder, the model itself, its preprocessing, its checkpoint's path)."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "textcam-tiny.json").write_text(json.dumps(_CONFIG))
    open_clip.add_model_config(folder / "textcam-tiny.json")
    torch.manual_seed(3)
    model, _, preprocess = open_clip.create_model_and_transforms("textcam-tiny", pretrained=None)
    torch.save(model.state_dict(), folder / "weights.pt")
    path = folder / "weights.pt"
    return load_embedder(f"open_clip:textcam-tiny:{path}"), model.eval(), preprocess, path


def test_packaged_photographs_are_nearest_to_their_names(packaged):
    images = packaged.embed_images([data.chelsea(), Image.fromarray(data.coffee())])
    texts = packaged.embed_texts(["a cat", "a cup of coffee", "a truck"])
    assert (images @ texts.T).argmax(axis=1).tolist() == [0, 1]


def test_packaged_embeddings_are_unit_vectors_whatever_the_batch(packaged):
    pictures = [data.chelsea(), data.coffee(), data.astronaut()]
    together = packaged.embed_images(pictures)
    alone = np.concatenate([packaged.embed_images([picture]) for picture in pictures])
    assert (together.shape, together.dtype) == ((3, packaged.dimension), np.float32)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert packaged.embed_images([]).shape == packaged.embed_texts([]).shape == (0, 384)


def test_packaged_image_embedding_is_the_convex_combination_of_class_embeddings(packaged):
    """ConSE by hand: a photograph's embedding has non-negative coordinates in the classes."""
    network = load_network("efficientnet_lite2")
    pixels, _ = prepare(Image.fromarray(data.chelsea()), network.preprocessing)
    with torch.inference_mode():
        logits = network.module(torch.tensor(pixels)[None])[0].double().numpy()
    weights = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    by_hand = weights @ packaged.class_embeddings.astype(np.float64)
    found = packaged.embed_images([data.chelsea()])[0]
    np.testing.assert_allclose(found, by_hand / np.linalg.norm(by_hand), atol=1e-5)
    assert network.class_names[int(weights.argmax())] == "Egyptian cat"


def test_templates_average_unit_embeddings(packaged):
    found = embed_with_templates(packaged, ["dog", "red"], ("{}", "a {}"))
    mean = packaged.embed_texts(["dog", "red"]) + packaged.embed_texts(["a dog", "a red"])
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)
    assert len(set(TEMPLATES)) == 13
    assert all(template.count("{}") == 1 for template in TEMPLATES)


def test_the_packages_embeddings_are_the_encoders_own(packaged):
    """So that a first build embeds none of these texts."""
    rows, manifest = read_artefact(PHOTOS, "texts")
    assert manifest["embedder"] == packaged.identity
    texts = packaged_texts(packaged)
    assert len(rows["rows"]) == len(texts) > 2500
    np.testing.assert_allclose(
        packaged.embed_texts(texts[::150]), packaged._encoder.encode(texts[::150]), atol=1e-6
    )


def test_phrases_of_the_packaged_vocabulary_are_taken_as_it_has_them(packaged):
    known = read_bank(PHOTOS).vocabulary
    found = embedded(packaged, ["dog", "not in any vocabulary"], known)
    wanted = embed_with_templates(packaged, ["dog", "not in any vocabulary"])
    assert "dog" in known.phrases
    np.testing.assert_allclose(found, wanted, atol=2e-4)  # it is stored in half precision
    np.testing.assert_array_equal(found[1], wanted[1])
    other = replace(known, embedder="another@sha256:0")
    np.testing.assert_array_equal(embedded(packaged, ["dog"], other)[0], wanted[0])


def test_packaged_identity_names_its_parts(packaged):
    name, digest = packaged.identity.split("@")
    assert name == "packaged/all-MiniLM-L6-v2+conse-efficientnet_lite2"
    assert digest.startswith("sha256:")
    assert len(digest) == 71


def test_open_clip_embeds_as_the_model_itself_does(tiny_clip):
    embedder, model, preprocess, _ = tiny_clip
    pictures = [data.chelsea(), data.coffee()]
    with torch.inference_mode():
        stacked = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])
        images = torch.nn.functional.normalize(model.encode_image(stacked), dim=1).numpy()
        tokens = open_clip.get_tokenizer("textcam-tiny")(["a cat", "coffee", "red"])
        texts = torch.nn.functional.normalize(model.encode_text(tokens), dim=1).numpy()
    np.testing.assert_allclose(embedder.embed_images(pictures), images, atol=1e-5)
    np.testing.assert_allclose(embedder.embed_texts(["a cat", "coffee", "red"]), texts, atol=1e-5)
    assert embedder.dimension == 16


def test_open_clip_identity_follows_the_weights(tiny_clip, tmp_path):
    embedder, model, _, path = tiny_clip
    assert load_embedder(f"open_clip:textcam-tiny:{path}").identity == embedder.identity
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["logit_scale"] += 1
    torch.save(state, tmp_path / "other.pt")
    other = load_embedder(f"open_clip:textcam-tiny:{tmp_path / 'other.pt'}")
    assert other.identity != embedder.identity


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("clip", "unknown embedder"),
        ("packaged:x", "unknown embedder"),
        ("open_clip:ViT-B-32", "unknown embedder"),
        ("open_clip:nothing:openai", "no model 'nothing'"),
        ("open_clip:ViT-B-32:nothing", "neither a file nor a pretrained tag.*openai"),
        ("open_clip:ViT-B-32:", "neither a file nor a pretrained tag"),
    ],
)
def test_unknown_embedders_are_refused_with_what_would_do(spec, message):
    with pytest.raises(EmbedderError, match=message):
        load_embedder(spec)


def test_a_checkpoint_that_does_not_fit_is_refused(tiny_clip, tmp_path):
    torch.save({"something": torch.zeros(1)}, tmp_path / "wrong.pt")
    with pytest.raises(EmbedderError, match="cannot load textcam-tiny"):
        load_embedder(f"open_clip:textcam-tiny:{tmp_path / 'wrong.pt'}")
