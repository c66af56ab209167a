"""Explanation parity: how closely an int8 backbone explains as the float one it was made from.

The report lies beside the int8 backbone, whose manifest states its digest, and holds what a bank
of the float backbone must find at load: which bank it was compared under, and the activation
scores of the int8 backbone's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from textcam_service.artefacts.files import read_artefact, write_artefact
from textcam_service.core.types import Float32Array
from textcam_service.errors import ArtefactCorrupt, ParityMissed

NAME = "parity"


@dataclass(frozen=True)
class Thresholds:
    """What an int8 backbone must reach.

    Attributes:
        top1: Share of images whose most probable class is the same.
        correlation: Mean of Pearson's correlation of an image's two saliency maps.
        first_phrase: Share of images whose rationale begins with the same phrase.
    """

    top1: float = 0.98
    correlation: float = 0.97
    first_phrase: float = 0.95


@dataclass(frozen=True)
class ExplanationAgreement:
    """What was found over the held-out images, each backbone explaining its own prediction.

    Attributes:
        images: How many images.
        top1: As of Thresholds.
        correlation: As of Thresholds.
        correlation_p5: The 5th percentile over the images.
        first_phrase: As of Thresholds.
    """

    images: int
    top1: float
    correlation: float
    correlation_p5: float
    first_phrase: float

    def reach(self, wanted: Thresholds) -> bool:
        """Whether all thresholds are reached; a figure that is no number reaches none."""
        return all(getattr(self, name) >= value for name, value in asdict(wanted).items())

    def require(self, wanted: Thresholds, device: str) -> None:
        """See that a device explains as the CPU does.

        Raises:
            ParityMissed: A threshold is missed.
        """
        if not self.reach(wanted):
            raise ParityMissed(
                f"{device} does not explain as the CPU does: {self.against(wanted)}; serve in fp32"
            )

    def against(self, wanted: Thresholds) -> str:
        """The figures beside what was wanted, for people."""
        return (
            f"same top-1 {self.top1:.4f} (at least {wanted.top1:g}), correlation of saliency maps "
            f"{self.correlation:.4f} (at least {wanted.correlation:g}; 5th percentile "
            f"{self.correlation_p5:.4f}), same first phrase {self.first_phrase:.4f} (at least "
            f"{wanted.first_phrase:g}), over {self.images} held-out images"
        )


@dataclass(frozen=True)
class ParityReport:
    """What the comparison of an int8 backbone with its float form found.

    Attributes:
        figures: What was found.
        thresholds: What was wanted.
        bank_digest: Of the bank that both explained with.
        vocabulary_digest: Of its vocabulary.
        quantisation: How it was quantised, and how many images calibrated it.
        fingerprint: (D,) Backbone.fingerprint() of the int8 backbone.
    """

    figures: ExplanationAgreement
    thresholds: Thresholds
    bank_digest: str
    vocabulary_digest: str
    quantisation: Mapping[str, Any]
    fingerprint: Float32Array

    @property
    def judged_with(self) -> tuple[str, str]:
        """Digests of the bank and of its vocabulary."""
        return self.bank_digest, self.vocabulary_digest

    def __str__(self) -> str:
        return self.figures.against(self.thresholds)


def write_parity(folder: Path, report: ParityReport) -> str:
    """Write parity.json and parity.safetensors and return the digest."""
    content = asdict(report)
    return write_artefact(folder, NAME, {"fingerprint": content.pop("fingerprint")}, content)


def read_parity(folder: Path, digest: str) -> ParityReport:
    """Read and verify the report beside an int8 backbone.

    Args:
        folder: The backbone's.
        digest: What the backbone's manifest states.

    Raises:
        ArtefactMissing: A file is not there.
        ArtefactCorrupt: It is not the report of this backbone, or its figures are below its
            thresholds.
    """
    tensors, manifest = read_artefact(folder, NAME)
    mend = "run `textcam quantise` again"
    if manifest.pop("digest") != digest:
        raise ArtefactCorrupt(
            f"{folder}/{NAME}.json is not the report that backbone.json states; {mend}"
        )
    del manifest["tensors_sha256"]
    try:
        figures = ExplanationAgreement(**manifest.pop("figures"))
        thresholds = Thresholds(**manifest.pop("thresholds"))
        report = ParityReport(figures, thresholds, fingerprint=tensors["fingerprint"], **manifest)
    except (KeyError, TypeError) as error:
        raise ArtefactCorrupt(f"{folder}/{NAME}.json lacks a field: {error}; {mend}") from error
    if not figures.reach(thresholds):
        raise ArtefactCorrupt(f"{folder}/{NAME}.json says that it failed: {report}; {mend}")
    return report
