"""What is kept of the probing images is what serving finds in the same images."""

import shutil

import numpy as np
import pytest
from head_networks import Pooled, Transformer, exported
from PIL import Image
from small_models import write_model
from textcam_service.artefacts.bank import ConceptBank, Vocabulary, write_bank
from textcam_service.artefacts.files import write_artefact
from textcam_service.core.predictions import predictions
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.imaging.decoding import prepare
from textcam_service.model.bundle import ModelBundle
from textcam_service.model.explainer import attribute, make_rationale
from textcam_service.offline.banks.extract import extract
from textcam_service.runtime.backbone import Backbone

COUNT = 20


NETWORKS = {
    "linear": None,
    "pooled to a grid": (Pooled, {}),
    "tokens": (Transformer, {"target_layer": "blocks.0"}),
}


class Blind:
    identity, dimension, logit_scale = "blind@sha256:0", 3, 1.0

    def embed_images(self, images):
        return np.tile(np.float32([1, 0, 0]), (len(images), 1))

    def embed_texts(self, texts):
        return self.embed_images(texts)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(COUNT):
        colours = rng.integers(0, 256, (5, 6, 3), np.uint8)
        Image.fromarray(colours).resize((50, 40)).save(folder / f"{number:02}.png")
    (folder / "07.png").write_bytes(b"damaged")
    return sorted(folder.iterdir())


@pytest.fixture(params=NETWORKS, scope="module")
def bundle(request, tmp_path_factory):
    """A network of either kind of head, with a bank of random directions."""
    folder = tmp_path_factory.mktemp("network")
    if NETWORKS[request.param] is None:
        (write_model(folder, 3) / "backbone").rename(folder / "b")
    else:
        module, options = NETWORKS[request.param]
        exported(module, folder, **options)
    backbone, rng = Backbone(folder / "b", threads=1), np.random.default_rng(1)
    channels = backbone.manifest.channel_count
    bank = ConceptBank(
        rng.normal(size=(channels, 3)),
        np.zeros(channels, bool),
        np.ones(3, np.float32),
        backbone.fingerprint(),
        backbone.manifest.weights_digest,
        Blind.identity,
        {},
    )
    texts = rng.normal(size=(4, 3))
    write_bank(folder / "bank", bank, Vocabulary(tuple("abcd"), texts, Blind.identity))
    made = ModelBundle.load("m", folder / "b", folder / "bank", threads=1)
    assert made.default_method.name == ("cam" if backbone.is_linear else "grad_cam")
    return made


def test_evidence_is_what_serving_explains_the_predicted_class_by(bundle, photos, tmp_path):
    found = extract(photos, bundle.backbone, Blind(), tmp_path / "work")
    read = [path for path in photos if path.name != "07.png"]
    assert len(found.evidence) == len(read) == COUNT - 1
    assert found.opinions.shape == (len(read), 0)
    for row, path in enumerate(read):
        image, _ = prepare(Image.open(path), bundle.backbone.manifest.preprocessing)
        (seen,) = bundle.backbone.forward(image[None])
        index = int(seen.logits.argmax())
        assert found.predicted[row] == index
        target = predictions(seen.logits, bundle.class_names, [index])[0]
        terms = attribute(bundle, seen, image, target, None)
        rationale = make_rationale(bundle, seen, terms, target, None, PhraseFilter(3))
        for part in (*rationale.groups, rationale.rest):
            own = found.evidence[row, part.channel_ids]
            assert own.sum() == pytest.approx(part.evidence, rel=1e-3, abs=1e-4)
        whole = rationale.logit - rationale.bias - rationale.gap
        assert found.evidence[row].sum() == pytest.approx(whole, rel=1e-3, abs=1e-4)
        np.testing.assert_allclose(found.logits[row], seen.logits, rtol=1e-4, atol=1e-4)
    assert np.ptp(found.evidence, axis=0).any()


def test_work_folders_of_another_layout_are_passed_over(bundle, photos, tmp_path):
    """Chunks that were written by digest alone: they are neither read nor a reason to fail."""
    work = tmp_path / "work"
    one = extract(photos, bundle.backbone, Blind(), work)
    (own,) = work.iterdir()
    old = work / own.name.removeprefix("extraction-")
    old.mkdir()
    shutil.rmtree(own)
    write_artefact(old, "chunk", {"embeddings": np.zeros((1, 3))}, {"skipped": []})
    again = extract(photos, bundle.backbone, Blind(), work)
    np.testing.assert_array_equal(again.evidence, one.evidence)
