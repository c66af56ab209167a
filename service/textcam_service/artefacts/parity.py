"""Explanation parity: how closely an int8 or bfloat16 backbone explains like its float32 form.

The report is a file beside the int8 backbone; the backbone's manifest states the report's digest.
When a bank of the float backbone is loaded, it is checked against the report: the digest of the
bank used for the comparison, and the int8 backbone's own activation scores.

In OpenVINO, bfloat16 and int8 depend on the machine. So their reports are records among the
machine's compiled networks, one for each bank; see model.precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from textcam_service.artefacts.files import Tensors, read_artefact, write_artefact
from textcam_service.core.agreement import AgreementThresholds, ExplanationAgreement
from textcam_service.core.types import Float32Array
from textcam_service.errors import ArtefactCorrupt, ParityMissed

NAME = "parity"


# Names that a report may hold in place of those of its fields.
_ALIASES = {
    "correlation": "map_correlation",
    "correlation_p5": "map_correlation_p5",
    "quantisation": "quantization",
}


@dataclass(frozen=True)
class ParityReport:
    """Comparison of an int8 or bfloat16 backbone with its float32 form.

    Attributes:
        figures: The agreement found; each backbone explains its own most probable class.
        thresholds: The agreement required.
        bank_digest: Digest of the bank that both used.
        vocabulary_digest: Digest of the bank's vocabulary.
        quantization: Settings of the quantization, and the number of calibration images.
        fingerprint: (D,) Backbone.fingerprint() of the int8 or bfloat16 backbone.
        machine: Graph, bank, runtime and processor of a record; empty in a backbone's folder.
    """

    figures: ExplanationAgreement
    thresholds: AgreementThresholds
    bank_digest: str
    vocabulary_digest: str
    quantization: Mapping[str, Any]
    fingerprint: Float32Array
    machine: Mapping[str, str] = field(default_factory=dict)

    @property
    def judged_with(self) -> tuple[str, str]:
        """Digests of the bank and of its vocabulary."""
        return self.bank_digest, self.vocabulary_digest

    def __str__(self) -> str:
        return self.figures.compared_with(self.thresholds)


def write_parity(folder: Path, report: ParityReport, name: str = NAME) -> str:
    """Write NAME.json and NAME.safetensors and return the digest."""
    content = asdict(report)
    return write_artefact(folder, name, {"fingerprint": content.pop("fingerprint")}, content)


def read_parity(folder: Path, digest: str) -> ParityReport:
    """Read and verify the report beside an int8 backbone.

    Args:
        folder: Folder of the backbone.
        digest: Digest that the backbone's manifest states.

    Raises:
        ArtefactMissing: A file is missing.
        ArtefactCorrupt: It is not the report of this backbone, or its figures are below its
            thresholds.
    """
    remedy = "run `textcam quantize` again"
    tensors, manifest = read_artefact(folder, NAME)
    if manifest["digest"] != digest:
        raise ArtefactCorrupt(
            f"{folder}/{NAME}.json is not the report that backbone.json states; {remedy}"
        )
    return _report(folder / f"{NAME}.json", tensors, manifest, remedy)


def read_record(folder: Path, name: str) -> ParityReport:
    """Read and verify a machine's record.

    Raises:
        ArtefactMissing: There is none.
        ArtefactCorrupt: It is damaged, or its figures are below its thresholds.
    """
    given = read_artefact(folder, name)
    return _report(folder / f"{name}.json", *given, "run `textcam parity` again")


def _report(path: Path, tensors: Tensors, manifest: dict[str, Any], remedy: str) -> ParityReport:
    """Make a report of its file's content, which must meet its own thresholds."""
    del manifest["digest"], manifest["tensors_sha256"]
    try:
        figures = ExplanationAgreement(**_renamed(manifest.pop("figures")))
        thresholds = AgreementThresholds(**_renamed(manifest.pop("thresholds")))
        rest = _renamed(manifest)
        report = ParityReport(figures, thresholds, fingerprint=tensors["fingerprint"], **rest)
    except (AttributeError, KeyError, TypeError) as error:
        raise ArtefactCorrupt(f"{path} lacks a field: {error}; {remedy}") from error
    if not figures.meets(thresholds):
        raise ArtefactCorrupt(f"{path} states that it failed: {report}; {remedy}")
    return report


def require_parity(
    figures: ExplanationAgreement, thresholds: AgreementThresholds, device: str
) -> None:
    """Require that a device explains like the CPU.

    Raises:
        ParityMissed: A threshold is missed.
    """
    if not figures.meets(thresholds):
        raise ParityMissed(
            f"{device} does not explain as the CPU does: {figures.compared_with(thresholds)}; "
            "serve in fp32"
        )


def _renamed(measures: Mapping[str, Any]) -> dict[str, Any]:
    return {_ALIASES.get(name, name): value for name, value in measures.items()}
