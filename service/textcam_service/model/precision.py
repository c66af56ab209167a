"""Reduced precision in OpenVINO: served only where `textcam parity` found that it explains alike.

bfloat16 is compared with float32, and int8 with int8 in onnxruntime, which was compared with
float32. What was found is kept beside the machine's compiled networks, for each graph and bank.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from textcam_service.artefacts.backbone import digest_key
from textcam_service.artefacts.bank import BankArtefact
from textcam_service.artefacts.files import artefact_files, read_manifest
from textcam_service.artefacts.parity import ParityReport, read_record, write_parity
from textcam_service.core.agreement import AgreementThresholds, ExplanationAgreement
from textcam_service.errors import ArtefactError, InvalidSettings
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.providers import (
    AUTO,
    BF16,
    FP32,
    INT8,
    OPENVINO,
    DeviceOptions,
    chosen_providers,
    engines_of,
)
from textcam_service.runtime.sessions import available_providers

_log = logging.getLogger(__name__)
_SHORT = {"bfloat16": BF16, "int8": INT8}  # by Backbone.precision
_DIGITS = 16  # of a bank's digest, in the names of its record's files


def settled(
    providers: tuple[str, ...], options: DeviceOptions, folder: Path, artefact: BankArtefact
) -> tuple[tuple[str, ...], DeviceOptions]:
    """Settle precision "auto": bf16 if this machine has units and a record for it, else fp32.

    Without providers, OpenVINO is taken for bf16, and what is usual for fp32.

    Args:
        providers: See runtime.providers.chosen_providers.
        options: See DeviceOptions.
        folder: Folder of the backbone.
        artefact: The bank.

    Returns:
        Providers and options without "auto".
    """
    if options.precision != AUTO:
        return providers, options
    exact = replace(options, precision=FP32)
    reason = _obstacle(providers, exact, folder, artefact)
    if reason:
        _log.info("precision auto: %s is served in its own precision, since %s", folder, reason)
        return providers, exact
    return (OPENVINO,), replace(options, precision=BF16)


def needs_record(backbone: Backbone) -> bool:
    """Return True if a backbone serves only with a record of parity on this machine."""
    return backbone.execution_provider == OPENVINO and backbone.precision in _SHORT


def require_record(
    digest: str, artefact: BankArtefact, options: DeviceOptions, precision: str
) -> ParityReport:
    """Return the record of a graph and a bank on this machine.

    Args:
        digest: Digest of the trunk's graph.
        artefact: The bank.
        options: Options with the folder of compiled networks.
        precision: Backbone.precision.

    Raises:
        InvalidSettings: There is none, or it is another processor's or version's.
    """
    short = _SHORT[precision]
    again = (
        f"run `textcam parity --providers openvino --precision {short}` with this backbone, bank "
        "and --engine-cache here, or serve without OpenVINO"
    )
    if not options.engine_cache:
        raise InvalidSettings(
            f"{short} in OpenVINO needs engine_cache, where its comparison is kept; {again}"
        )
    try:
        record = read_record(Path(engines_of(digest, options)), _name(artefact, short))
    except ArtefactError as error:
        raise InvalidSettings(
            f"{short} in OpenVINO was not compared here ({error}); {again}"
        ) from error
    here = _machine(digest, artefact)
    if record.machine != here:
        raise InvalidSettings(
            f"{short} in OpenVINO was compared under {dict(record.machine)}, and here is {here}; "
            f"{again}"
        )
    return record


def keep_record(
    backbone: Backbone,
    artefact: BankArtefact,
    options: DeviceOptions,
    figures: ExplanationAgreement,
    thresholds: AgreementThresholds,
) -> None:
    """Keep a comparison for require_record; one that missed its thresholds removes the record.

    Args:
        backbone: The backbone in OpenVINO.
        artefact: The bank.
        options: Options with the folder of compiled networks.
        figures: Agreement that was found.
        thresholds: Agreement that is required.
    """
    folder = Path(engines_of(backbone.graph_digest, options))
    name = _name(artefact, _SHORT[backbone.precision])
    if not figures.meets(thresholds):
        for file in artefact_files(name):
            (folder / file).unlink(missing_ok=True)
        return
    report = ParityReport(
        figures,
        thresholds,
        artefact.bank_digest,
        artefact.vocabulary_digest,
        {},
        backbone.fingerprint(),
        _machine(backbone.graph_digest, artefact),
    )
    write_parity(folder, report, name)


def _obstacle(
    providers: tuple[str, ...], options: DeviceOptions, folder: Path, artefact: BankArtefact
) -> str:
    """Say why a backbone cannot be served in bfloat16; empty: it can."""
    available = available_providers()
    first = chosen_providers(providers, options, available)[0]
    manifest = read_manifest(folder / "backbone.json")
    if OPENVINO not in available:
        return "OpenVINO is not installed"
    if first != OPENVINO and (providers or first.startswith("CUDA")):
        return f"{first} computes it"
    if manifest.get("quantized_from"):
        return "it is an int8 backbone"
    from textcam_service.runtime import openvino_session  # noqa: PLC0415 - extra 'openvino'

    if not openvino_session.has_bf16():
        return f"{openvino_session.processor()} has no units for bf16"
    try:
        require_record(manifest[digest_key("backbone")], artefact, options, "bfloat16")
    except InvalidSettings as error:
        return str(error)
    return ""


def _machine(digest: str, artefact: BankArtefact) -> dict[str, str]:
    """Describe the circumstances for which a record holds."""
    from textcam_service.runtime import openvino_session  # noqa: PLC0415 - extra 'openvino'

    return {
        "graph": digest,
        "bank": artefact.bank_digest,
        "openvino": openvino_session.version(),
        "processor": openvino_session.processor(),
    }


def _name(artefact: BankArtefact, short: str) -> str:
    return f"{short}-{artefact.bank_digest.removeprefix('sha256:')[:_DIGITS]}"
