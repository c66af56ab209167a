"""Kept data of the probing images, as files."""

from dataclasses import asdict, replace

import numpy as np
from textcam_service.artefacts.bank import (
    FILES,
    WRITTEN,
    ConceptBank,
    Vocabulary,
    read_bank,
    write_bank,
)
from textcam_service.artefacts.files import read_artefact
from textcam_service.core.concepts.attributes import ClassAttributes
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.reliability import ReliabilityBin
from textcam_service.core.rationale.wording import PhraseSupports
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


def probing():
    rng = np.random.default_rng(4)
    return Probing(
        *(
            rng.normal(0, 1, (5, width)).astype(np.float16).astype(np.float32)
            for width in (D, D, C, 4, 0)
        ),
        labels=np.array([0, -1, 3, 2, 2]),
    )


def test_what_is_kept_of_the_probing_images_is_read_back_and_is_no_part_of_what_serves(tmp_path):
    kept = probing()
    folder = bank_folder(tmp_path / "bank", probing=(kept.tensors(), {"images": 5}))
    assert {path.name for path in folder.iterdir()} == set(WRITTEN)
    assert {"probing.json", "probing.safetensors"} & set(FILES) == set()
    back = Probing.of(read_artefact(folder, "probing")[0])
    for name, value in asdict(kept).items():
        np.testing.assert_array_equal(getattr(back, name), value)
        assert getattr(back, name).dtype == value.dtype
    without = read_bank(bank_folder(tmp_path / "without"))
    assert read_bank(folder).bank_digest == without.bank_digest
    # Written again without them, they are gone.
    bank_folder(folder)
    assert {path.name for path in folder.iterdir()} == set(FILES)
