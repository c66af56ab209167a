"""Banks with supports on disk: what is written is read, and what does not fit is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from textcam_service.artefacts.bank import (
    ConceptBank,
    Vocabulary,
    read_bank,
    write_bank,
)
from textcam_service.artefacts.files import read_artefact, write_artefact
from textcam_service.core.concepts.attributes import ClassAttributes
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.reliability import ReliabilityBin
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.core.rationale.wording import PhraseSupports
from textcam_service.errors import ArtefactCorrupt, BundleMismatch
from textcam_service.offline.banks.probing import Probing

D, V, C = 6, 3, 4


PHRASES, KINDS = ("fur", "red", "animal"), ("part", "colour", "category")


CALIBRATION = Calibration(
    mean=np.array([0.1, -0.2, 0.3], np.float32),
    deviation=0.0625,
    prior=np.array([0.5, 0.01, 0.0], np.float32),
    grounded=np.array([True, True, False]),
    slope=0.75,
    prior_weight=1.25,
    offset=-0.5,
    temperature=0.85,
    source="class_table",
    images=321,
    said=(0.5, 1.0, -0.25),
    bins=(ReliabilityBin(0.7, 0.8, 0.75, 0.8125, 16), ReliabilityBin(0.9, 1.0, 0.95, 1.0, 3)),
)


TABLE = np.array([[0.87, 0, 0], [0.25, 0.52, 0], [0, 0, 0], [0, 0.87, 0]], np.float32)


def supports():
    rng = np.random.default_rng(0)
    return PhraseSupports(
        supports=rng.normal(0, 0.2, (D, V)).astype(np.float16).astype(np.float32),
        likeness=rng.integers(-127, 128, (V, V)).astype(np.int8),
        calibration=CALIBRATION,
        apart=np.array([[0, 2]]),
        repeats=np.array([[0, 1], [3, 0]]),
        attributes=ClassAttributes.of(TABLE),
    )


def bank_folder(folder, *, known=True, phrases=PHRASES, kinds=KINDS, probing=None, **changes):
    """A bank; `known`: with supports; `changes` of them."""
    vectors = np.random.default_rng(1).standard_normal((D + len(phrases), 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    bank = ConceptBank(
        vectors[:D],
        np.zeros(D, bool),
        vectors[0],
        np.ones(D, np.float32),
        "sha256:b",
        "e",
        {"rationale": {"sparsity": 0.25}},
        replace(supports(), **changes) if known else None,
    )
    write_bank(folder, bank, Vocabulary(phrases, vectors[D:], "e", kinds), probing)
    return folder


def assert_same(found, expected):
    for name in ("supports", "likeness", "apart", "repeats"):
        own, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(own, other)
        assert own.dtype == other.dtype, name
    for name, value in vars(expected.calibration).items():
        np.testing.assert_equal(getattr(found.calibration, name), value)
    assert found.calibration.mean.dtype == found.calibration.prior.dtype == np.float32


def test_what_a_bank_knows_of_its_phrases_is_what_is_read(tmp_path):
    found = read_bank(bank_folder(tmp_path / "bank"))
    assert_same(found.bank.supports, supports())
    np.testing.assert_allclose(found.bank.supports.attributes.dense(), TABLE, atol=1e-6)
    assert (found.vocabulary.phrases, found.vocabulary.kinds) == (PHRASES, KINDS)
    again = read_bank(bank_folder(tmp_path / "again"))
    assert again.bank_digest == found.bank_digest


def test_what_is_not_known_is_read_as_such(tmp_path):
    bare = replace(CALIBRATION, said=None, bins=(), temperature=0.0)
    none = np.zeros((0, 2), np.int64)
    changes = {"calibration": bare, "apart": none, "repeats": none, "attributes": None}
    folder = bank_folder(tmp_path / "bank", kinds=(), **changes)
    found = read_bank(folder)
    assert_same(found.bank.supports, replace(supports(), **changes))
    assert found.bank.supports.attributes is None
    assert found.vocabulary.kinds == ()


def test_supports_are_rounded_by_less_than_a_thousandth(tmp_path):
    exact = np.random.default_rng(2).uniform(-1.4, 1.4, (D, V)).astype(np.float32)
    found = read_bank(bank_folder(tmp_path / "bank", supports=exact)).bank.supports
    assert np.abs(found.supports - exact).max() < 1e-3


def test_a_bank_without_supports_is_written_as_ever_and_read(tmp_path):
    """As earlier versions wrote it: neither its manifest nor its tensors have anything new."""
    folder = bank_folder(tmp_path / "bank", known=False, kinds=())
    manifest = json.loads((folder / "bank.json").read_text())
    assert {"supports", "phrases_digest"} & set(manifest) == set()
    assert "kinds" not in json.loads((folder / "vocabulary.json").read_text())
    assert set(read_artefact(folder, "bank")[0]) == {
        "channel_embeddings",
        "dead",
        "mean_embedding",
        "fingerprint",
    }
    found = read_bank(folder)
    assert (found.bank.supports, found.vocabulary.kinds) == (None, ())
    assert found.bank.rationale == RationaleSettings(sparsity=0.25)


def test_phrases_of_another_bank_are_refused_with_what_mends_it(tmp_path):
    folder = bank_folder(tmp_path / "bank")
    other = bank_folder(tmp_path / "other", phrases=("fur", "red", "beast"))
    for file in ("vocabulary.json", "vocabulary.safetensors"):
        shutil.copy(other / file, folder / file)
    with pytest.raises(BundleMismatch, match=r"supports of other phrases .*`textcam bank vocabul"):
        read_bank(folder)


def test_the_same_phrases_in_another_order_are_others(tmp_path):
    folder = bank_folder(tmp_path / "bank")
    other = bank_folder(tmp_path / "other", phrases=PHRASES[::-1])
    for file in ("vocabulary.json", "vocabulary.safetensors"):
        shutil.copy(other / file, folder / file)
    with pytest.raises(BundleMismatch, match="supports of other phrases"):
        read_bank(folder)


def test_kinds_that_are_not_one_for_each_phrase_are_refused(tmp_path):
    folder = bank_folder(tmp_path / "bank")
    rewrite(folder, "vocabulary", lambda tensors, manifest: manifest.update(kinds=["part"]))
    with pytest.raises(BundleMismatch, match="3 phrases have 1 kinds"):
        read_bank(folder)


def test_a_kind_that_this_version_does_not_know_is_refused(tmp_path):
    folder = bank_folder(tmp_path / "bank")
    kinds = ["part", "smell", "category"]
    rewrite(folder, "vocabulary", lambda tensors, manifest: manifest.update(kinds=kinds))
    with pytest.raises(ArtefactCorrupt, match=r"kind of phrases that .* does not know: smell"):
        read_bank(folder)


def rewrite(folder, name, change):
    """Change an artefact, with digests that fit."""
    tensors, manifest = read_artefact(folder, name)
    tensors, manifest = dict(tensors), dict(manifest)
    change(tensors, manifest)
    for given in ("digest", "format", "tensors", "sha256"):
        manifest.pop(given, None)
    for file in folder.glob(f"{name}.*"):
        file.unlink()
    write_artefact(folder, name, tensors, manifest)


@pytest.mark.parametrize(
    "tensor", ["supports", "likeness", "null_mean", "grounded", "apart", "attribute_percent"]
)
def test_a_missing_tensor_is_named(tensor, tmp_path):
    folder = bank_folder(tmp_path / "bank")
    rewrite(folder, "bank", lambda tensors, manifest: tensors.pop(tensor))
    with pytest.raises(ArtefactCorrupt, match=f"lacks '{tensor}'; build it again"):
        read_bank(folder)


@pytest.mark.parametrize("field", ["deviation", "said", "bins", "classes"])
def test_a_missing_field_of_the_calibration_is_named(field, tmp_path):
    folder = bank_folder(tmp_path / "bank")
    rewrite(folder, "bank", lambda tensors, manifest: manifest["supports"].pop(field))
    with pytest.raises(ArtefactCorrupt, match=f"lacks '{field}'; build it again"):
        read_bank(folder)


def test_a_bit_of_a_support_that_changed_is_noticed(tmp_path):
    folder = bank_folder(tmp_path / "bank")
    path = folder / "bank.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtefactCorrupt):
        read_bank(folder)


def probing():
    rng = np.random.default_rng(4)
    return Probing(
        *(
            rng.normal(0, 1, (5, width)).astype(np.float16).astype(np.float32)
            for width in (D, D, C, 4, 0)
        ),
        labels=np.array([0, -1, 3, 2, 2]),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"supports": np.zeros((D, V + 1), np.float32)},
        {"supports": np.full((D, V), np.nan, np.float32)},
        {"likeness": np.zeros((2, 2), np.int8)},
        {"apart": np.array([[0, V]])},
        {"repeats": np.array([[0, -1]])},
        {"calibration": replace(CALIBRATION, deviation=0.0)},
        {"calibration": replace(CALIBRATION, slope=float("nan"))},
        {"calibration": replace(CALIBRATION, mean=np.zeros(V + 1, np.float32))},
        {"attributes": ClassAttributes(np.array([C]), np.array([0]), np.ones(1), (C, V))},
    ],
)
def test_supports_that_would_fail_at_the_first_request_are_refused(changes, tmp_path):
    bank_folder(tmp_path / "bank", **changes)
    with pytest.raises(ArtefactCorrupt, match="do not fit its channels and phrases, or are not nu"):
        read_bank(tmp_path / "bank")
