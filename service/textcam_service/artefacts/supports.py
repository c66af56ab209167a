"""Phrase supports and their calibration as tensors and JSON values of a bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from textcam_service.artefacts.files import Tensors
from textcam_service.core.concepts.attributes import ClassAttributes
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.reliability import ReliabilityBin
from textcam_service.core.rationale.wording import PhraseSupports
from textcam_service.core.types import IntArray
from textcam_service.errors import ArtefactCorrupt

_PERCENT = 100


def supports_tensors(supports: PhraseSupports) -> dict[str, np.ndarray[Any, Any]]:
    """List the tensors that hold supports, by name."""
    calibration = supports.calibration
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "supports": supports.supports.astype(np.float16),
        "likeness": supports.likeness,
        "null_mean": calibration.mean,
        "phrase_prior": calibration.prior,
        "grounded": calibration.grounded,
        "apart": supports.apart.astype(np.int32),
        "repeats": supports.repeats.astype(np.int32),
    }
    if (table := supports.attributes) is not None:
        tensors |= {
            "attribute_classes": table.classes.astype(np.int32),
            "attribute_phrases": table.phrases.astype(np.int32),
            "attribute_percent": np.rint(table.values * _PERCENT).astype(np.uint8),
        }
    return tensors


def supports_manifest(supports: PhraseSupports) -> dict[str, Any]:
    """List the JSON values that hold the rest of the supports and their calibration."""
    calibration = supports.calibration
    names = ("deviation", "slope", "prior_weight", "offset", "temperature", "source", "images")
    return {
        **{name: getattr(calibration, name) for name in names},
        "said": None if calibration.said is None else list(calibration.said),
        "bins": [asdict(each) for each in calibration.bins],
        "classes": None if supports.attributes is None else supports.attributes.shape[0],
    }


def read_supports(
    tensors: Tensors, manifest: Mapping[str, Any], phrase_count: int
) -> PhraseSupports:
    """Read supports back from tensors and JSON values.

    Args:
        tensors: Tensors of the bank, by name.
        manifest: Values written by supports_manifest.
        phrase_count: Number of phrases in the vocabulary.

    Raises:
        ArtefactCorrupt: They do not fit the bank's channels and phrases, or hold values that are
            not numbers.
        KeyError: A tensor or field is missing.
        TypeError: A field is malformed.
    """
    calibration = Calibration(
        mean=tensors["null_mean"],
        deviation=manifest["deviation"],
        prior=tensors["phrase_prior"],
        grounded=tensors["grounded"].astype(bool),
        slope=manifest["slope"],
        prior_weight=manifest["prior_weight"],
        offset=manifest["offset"],
        temperature=manifest["temperature"],
        source=manifest["source"],
        images=manifest["images"],
        said=None if manifest["said"] is None else tuple(manifest["said"]),
        bins=tuple(ReliabilityBin(**each) for each in manifest["bins"]),
    )
    attributes = None
    if manifest["classes"] is not None:
        attributes = ClassAttributes(
            tensors["attribute_classes"].astype(np.int64),
            tensors["attribute_phrases"].astype(np.int64),
            np.asarray(tensors["attribute_percent"] / np.float32(_PERCENT), np.float32),
            (manifest["classes"], phrase_count),
        )
    supports = PhraseSupports(
        supports=tensors["supports"].astype(np.float32),
        likeness=tensors["likeness"],
        calibration=calibration,
        apart=tensors["apart"].astype(np.int64),
        repeats=tensors["repeats"].astype(np.int64),
        attributes=attributes,
    )
    _check_shapes(supports, len(tensors["dead"]), phrase_count)
    return supports


def _check_shapes(supports: PhraseSupports, channels: int, phrases: int) -> None:
    """Refuse supports that would fail at the first request; raises ArtefactCorrupt."""
    calibration, table = supports.calibration, supports.attributes
    numbers = (calibration.deviation, calibration.slope, calibration.prior_weight,
               calibration.offset, calibration.temperature)  # fmt: skip
    per_phrase = (calibration.mean, calibration.prior, calibration.grounded)
    sound = (
        supports.supports.shape == (channels, phrases)
        and supports.likeness.shape == (phrases, phrases)
        and all(each.shape == (phrases,) for each in per_phrase)
        and all(isinstance(each, (int, float)) and np.isfinite(each) for each in numbers)
        and calibration.deviation > 0
        and bool(np.isfinite(supports.supports).all() and np.isfinite(calibration.mean).all())
        and bool(np.isfinite(calibration.prior).all())
        and _are_within(supports.apart, (phrases, phrases))
        and _are_within(supports.repeats, (None, phrases))
    )
    if sound and table is not None:
        sizes = {len(table.classes), len(table.phrases), len(table.values)}
        entries = np.stack([table.classes, table.phrases], axis=1) if len(sizes) == 1 else None
        sound = entries is not None and _are_within(entries, table.shape)
    if not sound:
        raise ArtefactCorrupt(
            "the bank's supports do not fit its channels and phrases, or are not numbers; build it "
            "again"
        )


def _are_within(pairs: IntArray, limits: tuple[int | None, int | None]) -> bool:
    """Return True if all (P, 2) index pairs are at least 0 and below their limits."""
    return pairs.ndim == 2 and pairs.shape[1] == 2 and all(
        not len(pairs)
        or (column.min() >= 0 and (limit is None or column.max() < limit))
        for column, limit in zip(pairs.T, limits, strict=True)
    )  # fmt: skip
