"""Banks of supports, built and given other vocabularies: what is grounded, by what, and what not.

The embedder is a classifier that knows five of ImageNet's classes by their colour.
"""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from small_models import write_model
from textcam_service.artefacts.bank import read_bank
from textcam_service.cli import main
from textcam_service.core.concepts.channel_embeddings import ChannelSettings
from textcam_service.core.concepts.supports import correlations
from textcam_service.core.predictions import predictions
from textcam_service.core.probability import softmax
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings
from textcam_service.errors import BundleMismatch
from textcam_service.imaging.decoding import prepare
from textcam_service.model.bundle import ModelBundle
from textcam_service.model.explainer import attribute, make_rationale
from textcam_service.offline.banks.attribute_tables import Tables, matrix, packaged_table
from textcam_service.offline.banks.build import BankSettings, build_bank
from textcam_service.offline.banks.vocabulary import replace_vocabulary
from textcam_service.offline.embedders.base import ClassifierEmbedder
from textcam_service.runtime.backbone import Backbone

GOLDFISH, TABBY, ZEBRA, AIRLINER, CAR = CLASSES = (1, 281, 340, 404, 817)
COLOURS = np.array(
    [[240, 120, 10], [120, 90, 60], [30, 30, 200], [200, 220, 250], [20, 180, 40]], np.uint8
)
PHRASES = ("fish", "bright orange", "cat", "zebra", "airplane", "car", "left-handed")
KINDS = ("thing", "colour", "thing", "thing", "thing", "thing", "shape")
CHANNELS = ChannelSettings(samples=20)


class Colours:
    """A classifier by the nearest colour; sentences have vectors of their own, and no meaning."""

    identity, dimension, logit_scale = "colours@sha256:0", 24, 1.0

    def __init__(self):
        self._classes = self.embed_texts([f"class {index}" for index in range(1000)])

    def embed_texts(self, texts):
        found = [
            np.random.default_rng(zlib.crc32(text.encode())).standard_normal(self.dimension)
            for text in texts
        ]
        return np.array([one / np.linalg.norm(one) for one in found], np.float32)

    def classify(self, images):
        logits = np.zeros((len(images), 1000), np.float32)
        for row, image in enumerate(images):
            mean = np.asarray(image).reshape(-1, 3).mean(axis=0)
            logits[row, CLASSES[np.abs(COLOURS - mean).sum(axis=1).argmin()]] = 12
        return logits

    def embed_logits(self, logits):
        mixed = softmax(logits) @ self._classes
        return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)

    def embed_images(self, images):
        return self.embed_logits(self.classify(images))


EMBEDDER = Colours()


def picture(place, rng):
    noise = rng.normal(0, 12, (32, 32, 3))
    return Image.fromarray(np.clip(COLOURS[place] + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A backbone and pictures; the colour of number n is n modulo 5."""
    folder = tmp_path_factory.mktemp("made")
    write_model(folder, 4)
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    images = []
    for number in range(60):
        images.append(folder / "pictures" / f"{number:02}.png")
        picture(number % 5, rng).save(images[-1])
    return folder, Backbone(folder / "backbone", threads=1), images


def built(made, output, phrases=PHRASES, kinds=KINDS, **options):
    _, backbone, images = made
    settings = BankSettings(CHANNELS, kinds=kinds, **options)
    return build_bank(backbone, EMBEDDER, images, phrases, output, settings)[0]


@pytest.fixture(scope="module")
def bank(made):
    built(made, made[0] / "built")
    return made[0] / "built"


def grounded(artefact):
    known = artefact.bank.supports.calibration.grounded
    return [p for p, own in zip(artefact.vocabulary.phrases, known, strict=True) if own]


def test_phrases_are_grounded_by_the_packaged_table_and_others_never_said(made, bank):
    assert isinstance(EMBEDDER, ClassifierEmbedder)
    artefact = read_bank(bank)
    supports = artefact.bank.supports
    assert grounded(artefact) == [*PHRASES[:6]]
    assert artefact.vocabulary.kinds == KINDS
    assert (supports.calibration.source, supports.calibration.images) == ("class_table", 60)
    assert not supports.supports[:, 6].any()
    # The head's classes are others: it has no table, and the network's opinion says nothing.
    assert (supports.attributes, supports.calibration.temperature) == (None, 0.0)
    assert supports.calibration.bins
    assert sum(each.count for each in supports.calibration.bins) > 20


def test_supports_are_the_channels_correlations_with_what_the_classifier_thinks(made, bank):
    _, backbone, images = made
    inputs = np.stack(
        [prepare(Image.open(path), backbone.manifest.preprocessing)[0] for path in images]
    )
    scores = backbone.run(inputs)[1].mean(axis=(2, 3))
    thought = softmax(EMBEDDER.classify([Image.open(path) for path in images]) / 3.0)
    opinions = thought @ matrix(packaged_table(), PHRASES, 1000)
    expected = [[np.corrcoef(a, b)[0, 1] for b in opinions.T[:6]] for a in scores.T]
    found = read_bank(bank).bank.supports.supports[:, :6]
    np.testing.assert_allclose(found, np.array(expected), atol=2e-3)


def test_what_is_said_of_new_pictures_is_true_of_their_class(made, bank):
    bundle = ModelBundle.load("colours", made[0] / "backbone", bank)
    rng, right = np.random.default_rng(9), []
    table = packaged_table()
    for number in range(25):
        image, _ = prepare(picture(number % 5, rng), bundle.backbone.manifest.preprocessing)
        (seen,) = bundle.backbone.forward(image[None])
        target = predictions(seen.logits, bundle.class_names, [int(seen.logits.argmax())])[0]
        terms = attribute(bundle, seen, image, target, None)
        for phrase in make_rationale(
            bundle, seen, terms, target, None, PhraseFilter(3, 0.5)
        ).phrases:
            right.append(table[phrase.text].get(CLASSES[number % 5], 0) > 0.5)
            assert phrase.kind == KINDS[phrase.vocabulary_index]
            assert 0.5 <= phrase.probability <= 1
    assert len(right) >= 10
    assert np.mean(right) > 0.6


def test_fewer_phrases_keep_what_is_known_of_them(bank, tmp_path):
    artefact, ungrounded = replace_vocabulary(bank, EMBEDDER, ("zebra", "fish"), tmp_path / "few")
    old, new = read_bank(bank).bank.supports, artefact.bank.supports
    np.testing.assert_array_equal(new.supports, old.supports[:, [3, 0]])
    assert new.calibration.mean.tolist() == old.calibration.mean[[3, 0]].tolist()
    assert (artefact.vocabulary.kinds, ungrounded) == (("thing", "thing"), ())
    assert (tmp_path / "few" / "probing.json").is_file()


def test_a_new_phrase_is_grounded_with_the_backbone_alone(made, bank, tmp_path):
    wanted = ("fish", "stripes", "left-handed")
    artefact, ungrounded = replace_vocabulary(bank, EMBEDDER, wanted, tmp_path / "without")
    assert (grounded(artefact), ungrounded) == (["fish"], ("stripes", "left-handed"))
    given = bank, EMBEDDER, wanted, tmp_path / "with"
    artefact, ungrounded = replace_vocabulary(*given, backbone=made[1])
    assert (grounded(artefact), ungrounded) == (["fish", "stripes"], ("left-handed",))
    # As a bank that is built with them, but for the rounding of what was kept of the images.
    fresh = built(made, tmp_path / "fresh", wanted, ())
    found, expected = artefact.bank.supports, fresh.bank.supports
    np.testing.assert_allclose(found.supports, expected.supports, atol=2e-3)
    assert found.calibration.slope == pytest.approx(expected.calibration.slope, rel=0.05)
    # Kinds that the bank knows stay known.
    assert artefact.vocabulary.kinds == ("thing", "", "shape")
    # And what was kept is kept on.
    again, none = replace_vocabulary(
        tmp_path / "with", EMBEDDER, ("cat",), tmp_path / "again", backbone=made[1]
    )
    assert (grounded(again), none) == (["cat"], ())


def test_a_table_grounds_what_nothing_else_does(made, bank, tmp_path):
    tables = Tables(imagenet={"left-handed": {GOLDFISH: 0.87, ZEBRA: 0.52}})
    given = bank, EMBEDDER, ("left-handed", "fish"), tmp_path / "bank"
    artefact, ungrounded = replace_vocabulary(*given, backbone=made[1], tables=tables)
    assert ungrounded == ()
    assert artefact.bank.supports.calibration.source == "class_table"
    prior = artefact.bank.supports.calibration.prior[0]
    # Half by the images, of which a fifth each are goldfish and zebras; half by the classes.
    assert prior == pytest.approx(((0.87 + 0.52) / 5 + (0.87 + 0.52) / 1000) / 2, rel=1e-2)


def test_the_images_labels_ground_phrases_of_the_backbones_own_classes(made, tmp_path):
    _, backbone, images = made
    labels = {path: number % 5 for number, path in enumerate(images)}
    tables = Tables(own={"left-handed": {0: 0.87, 3: 0.52}})
    artefact = built(made, tmp_path / "bank", tables=tables, labels=labels)
    supports = artefact.bank.supports
    assert supports.calibration.source == "labels+class_table"
    assert supports.calibration.grounded.all()
    assert supports.calibration.prior[6] == pytest.approx((0.87 + 0.52) / 5)
    # A linear head of the table's classes joins, of these phrases alone.
    inputs = np.stack(
        [prepare(Image.open(path), backbone.manifest.preprocessing)[0] for path in images]
    )
    scores = backbone.run(inputs)[1].mean(axis=(2, 3))
    truth = np.array([0.87, 0, 0, 0.52, 0])
    of_image = np.tile(truth, 12)[:, None]
    both = correlations(scores, of_image) + correlations(backbone.head_weights, truth[:, None])
    np.testing.assert_allclose(supports.supports[:, 6:], both / np.sqrt(2), atol=2e-3)
    plain = built(made, tmp_path / "plain").bank.supports
    np.testing.assert_allclose(supports.supports[:, :6], plain.supports[:, :6], atol=1e-3)


def test_without_labels_the_backbones_own_predictions_stand_for_them(made, tmp_path):
    tables = Tables(own={"left-handed": {0: 0.87, 3: 0.52}})
    artefact = built(made, tmp_path / "bank", tables=tables)
    assert artefact.bank.supports.calibration.source == "own_predictions+class_table"
    assert artefact.bank.supports.calibration.grounded.all()


def test_another_embedder_or_backbone_is_refused(made, bank, tmp_path):
    other = Colours()
    other.identity = "other@sha256:1"
    with pytest.raises(BundleMismatch, match="built with colours@sha256:0, and this embedder is"):
        replace_vocabulary(bank, other, ("fish",), tmp_path / "bank")
    strange = Backbone(write_model(tmp_path / "strange", 5) / "backbone", threads=1)
    with pytest.raises(BundleMismatch, match=r"built for backbone sha256.*give the bank's own"):
        replace_vocabulary(bank, EMBEDDER, ("fish",), tmp_path / "bank", backbone=strange)
    assert not (tmp_path / "bank").exists()


def test_a_bank_without_supports_stays_without(made, tmp_path):
    write_model(tmp_path, 4)
    embedder = Colours()
    embedder.identity, embedder.dimension = "small", 16
    given = tmp_path / "bank", embedder, ("fish", "cat"), tmp_path / "new"
    artefact, ungrounded = replace_vocabulary(*given, backbone=made[1])
    assert (artefact.bank.supports, ungrounded) == (None, ())
    bundle = ModelBundle.load("old", made[0] / "backbone", tmp_path / "new")
    assert (bundle.calibration, bundle.settings.wording) == (None, "supports")


def test_what_a_bank_says_by_embeddings_is_one_setting_away(made, bank):
    bundle = ModelBundle.load("colours", made[0] / "backbone", bank)
    paper = replace(bundle, settings=RationaleSettings("embeddings"))
    assert bundle.calibration is not None
    assert paper.calibration is None
    assert type(bundle.wording) is not type(paper.wording)


# --- the commands --------------------------------------------------------------------------------


@pytest.fixture
def packaged(monkeypatch):
    monkeypatch.setattr(
        "textcam_service.offline.embedders.loading.load_embedder", lambda _spec: EMBEDDER
    )


def run(*words):
    done = CliRunner().invoke(main, ["bank", *(str(word) for word in words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


def words_file(folder, *lines):
    (folder / "words.txt").write_text("\n".join(lines) + "\n")
    return folder / "words.txt"


def test_the_command_names_the_phrases_that_it_cannot_ground(made, bank, packaged, tmp_path):
    words = words_file(tmp_path, "fish", "# kind: texture", "stripes", "left-handed")
    common = "vocabulary", bank, "--vocabulary", words
    code, said = run(*common, "--output", tmp_path / "one")
    assert code == 0
    assert "no source grounds 2 of the phrases, so supports never choose them: stripes, " in said
    assert read_bank(tmp_path / "one").vocabulary.kinds == ("", "texture", "texture")
    backbone = "--backbone", made[0] / "backbone"
    code, said = run(*common, *backbone, "--output", tmp_path / "two")
    assert "no source grounds 1 of the phrases, so supports never choose them: left-" in said
    (tmp_path / "table.txt").write_text("left-handed: zebra\n")
    table = "--attributes", tmp_path / "table.txt"
    code, said = run(*common, *backbone, *table, "--output", tmp_path / "three")
    assert (code, "no source grounds" in said) == (0, False)
    code, said = run(*common, *table, "--output", tmp_path / "four")
    assert (code, "--attributes needs --backbone, because the table names its classes" in said) == (
        2,
        True,
    )


def test_a_bank_is_built_from_a_table_and_labels_and_tells_how_well_it_holds(
    made, packaged, tmp_path
):
    words = words_file(tmp_path, "# kind: thing", "fish", "zebra", "sail", "odd one")
    (tmp_path / "table.txt").write_text("sail: class 3, class 4?\n")
    rows = [f"{number:02}.png,class {number % 5}" for number in range(60)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    common = (
        *("build", "--backbone", made[0] / "backbone", "--images", made[0] / "pictures"),
        *("--vocabulary", words, "--samples", 20, "--output", tmp_path / "bank"),
    )
    tables = "--attributes", tmp_path / "table.txt", "--labels", tmp_path / "labels.csv"
    code, said = run(*common, *tables)
    assert code == 0, said
    assert "probabilities by labels+class_table of 60 images: expected calibration error" in said
    assert "no source grounds 1 of the phrases, so supports never choose them: odd one." in said
    assert "60 probing images are few: phrases will be poor" in said
    manifest = json.loads((tmp_path / "bank" / "bank.json").read_text())
    assert manifest["supports"]["source"] == "labels+class_table"
    code, said = run(*common, *tables[2:])
    assert (code, "--labels needs --attributes, the table of what is true" in said) == (2, True)
    (tmp_path / "table.txt").write_text("sail: class 9\n")
    code, said = run(*common, *tables)
    assert code == 1
    assert "there is no class 'class 9'" in said
    (tmp_path / "labels.csv").write_text("file,label\n00.png,boat\n")
    (tmp_path / "table.txt").write_text("sail: class 3\n")
    code, said = run(*common, *tables)
    assert (code, "line 2: 'boat' is none of the backbone's" in said) == (1, True)
