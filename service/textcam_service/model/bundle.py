"""A model bundle: backbone, bank and vocabulary that were made for each other."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from textcam_service.artefacts.bank import BankArtefact, read_bank
from textcam_service.artefacts.bundle import bundle_files
from textcam_service.artefacts.files import file_digests, version_of
from textcam_service.artefacts.parity import ParityReport
from textcam_service.core.concepts.supports import strongest_support
from textcam_service.core.methods import METHODS, Method
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.settings import RationaleSettings, WordSettings
from textcam_service.core.rationale.wording import EmbeddingWording, SupportWording, Wording
from textcam_service.core.types import Float32Array, IntArray
from textcam_service.errors import BundleMismatch, UnsupportedMethod
from textcam_service.imaging.resampling import RESAMPLER
from textcam_service.model.class_index import ClassIndex
from textcam_service.model.precision import needs_record, require_record, settled
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.providers import DeviceOptions

# Tolerance of a fingerprint, as a share of the largest activation score. In torch's fp16 on a CPU,
# EfficientNet-Lite0's scores are off by 5e-3, ResNet-50's (random weights) by 8e-4.
_FINGERPRINT_TOLERANCE = 1e-2
_ROUNDED_FINGERPRINT_TOLERANCE = 2e-2


@dataclass(frozen=True)
class ModelBundle:
    """Backbone, bank and vocabulary under one name and version.

    Attributes:
        name: Name of the model.
        version: Version of the model; by default version_of its files, as in a store.
        backbone: Ready to run.
        artefact: Bank and vocabulary.
        settings: Settings of rationales; by default those that the bank was built with.
        method_name: CAM method of requests that name none; empty: see default_method.
    """

    name: str
    version: str
    backbone: Backbone
    artefact: BankArtefact
    settings: RationaleSettings = field(default_factory=RationaleSettings)
    method_name: str = ""

    @staticmethod
    def load(
        name: str,
        backbone_folder: Path,
        bank_folder: Path,
        *,
        version: str = "",
        providers: tuple[str, ...] = (),
        threads: int = 0,
        device: DeviceOptions | None = None,
    ) -> ModelBundle:
        """Load and verify a bundle.

        Args:
            name: Name of the model.
            backbone_folder: Folder written by `textcam export`.
            bank_folder: Folder written by `textcam bank build`.
            version: Empty: version_of the files.
            providers: See Backbone.
            threads: See Backbone.
            device: See Backbone. Its precision may be "auto"; see model.precision.

        Raises:
            ArtefactError: A file is missing or corrupt, or the parts do not match.
            InvalidSettings: See Backbone, and model.precision.require_record.
        """
        artefact = read_bank(bank_folder)
        providers, options = settled(
            providers, device or DeviceOptions(), backbone_folder, artefact
        )
        backbone = Backbone(backbone_folder, providers=providers, threads=threads, device=options)
        _require_match(backbone, artefact, bank_folder)
        if not needs_record(backbone):
            _require_fingerprint(backbone, artefact)
        elif options.needs_record:
            given = (backbone.graph_digest, artefact, options, backbone.precision)
            backbone.parity = require_record(*given)
            _require_fingerprint(backbone, artefact)
        if not version:
            version = version_of(file_digests(bundle_files(backbone_folder, bank_folder)))
        return ModelBundle(name, version, backbone, artefact, artefact.bank.rationale)

    def with_words(self, words: WordSettings) -> ModelBundle:
        """Return the bundle with other settings of phrases than its bank was built with."""
        return replace(self, settings=words.over(self.artefact.bank.rationale))

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names, in order of index."""
        return self.backbone.manifest.class_names

    @property
    def multi_label(self) -> bool:
        """True if the classes do not exclude each other."""
        return self.backbone.manifest.multi_label

    @property
    def phrases(self) -> tuple[str, ...]:
        """V phrases of the vocabulary."""
        return self.artefact.vocabulary.phrases

    @cached_property
    def text_embeddings(self) -> Float32Array:
        """(V, E) centred unit vectors."""
        return self.artefact.vocabulary.centred()

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of the phrases' probabilities; None: wording by embeddings has none."""
        supports = self.artefact.bank.supports
        by_supports = self.settings.wording == "supports" and supports is not None
        return supports.calibration if by_supports and supports is not None else None

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """V kinds of phrases; "" where the vocabulary states none."""
        return self.artefact.vocabulary.kinds or ("",) * len(self.phrases)

    @cached_property
    def wording(self) -> Wording:
        """Choice of phrases from evidence: by supports if the bank has them, else by embeddings."""
        bank, supports = self.artefact.bank, self.artefact.bank.supports
        if self.calibration is None or supports is None:
            return EmbeddingWording(
                bank.channel_embeddings,
                bank.mean_embedding,
                self.text_embeddings,
                self.kinds,
                self.settings,
            )
        return SupportWording(supports, self.kinds, self.settings)

    @cached_property
    def channel_phrases(self) -> IntArray:
        """(D,) index of the phrase that each channel supports most; -1: it supports none."""
        everything = self.wording.supports(np.arange(len(self.phrases)))
        return strongest_support(everything, self.wording.min_support)

    @cached_property
    def _classes(self) -> ClassIndex:
        return ClassIndex(self.class_names, self.name)

    def class_index(self, name: str, field_name: str) -> int:
        """Find a class by its name; see ClassIndex.find.

        Raises:
            UnknownClass: There is no such class; the message suggests similar names.
        """
        return self._classes.find(name, field_name)

    @property
    def methods(self) -> tuple[Method, ...]:
        """CAM methods with queries that the backbone can answer."""
        capabilities = self.backbone.capabilities
        return tuple(method for method in METHODS.values() if method.needs <= capabilities)

    @property
    def default_method(self) -> Method:
        """The configured method; without one, CAM for a linear head, else a fallback.

        Raises:
            UnsupportedMethod: The backbone cannot answer the configured method's queries.
        """
        return self.method(self.method_name) if self.method_name else default_method(self.backbone)

    def method(self, name: str, field_name: str = "") -> Method:
        """Find a CAM method by its name.

        Raises:
            UnsupportedMethod: There is no such method, or the backbone cannot answer its queries;
                the message lists the supported ones.
        """
        known = METHODS.get(name)
        if known in self.methods:
            return known
        supported = ", ".join(method.name for method in self.methods)
        if known is None:
            fault = f"there is no method '{name}'"
        else:
            missing = sorted(need.value for need in known.needs - self.backbone.capabilities)
            fault = f"{known.title} needs {' and '.join(missing)}; model '{self.name}' has none"
        raise UnsupportedMethod(f"{fault}; it supports {supported}", field=field_name or None)

    def parameters(self) -> dict[str, str]:
        """List the parameters of explanations, for provenance."""
        built = self.artefact.bank.parameters.get("channel_settings", {})
        chosen = {f"rationale.{key}": value for key, value in asdict(self.settings).items()}
        ran = {"precision": self.backbone.precision, "resampler": RESAMPLER}
        parity = {"parity": self.backbone.parity} if self.backbone.parity else {}
        return {key: str(value) for key, value in {**built, **chosen, **ran, **parity}.items()}


def default_method(backbone: Backbone) -> Method:
    """Choose CAM for a linear head, else the first of a few methods that the head supports."""
    capabilities = backbone.capabilities
    for name in ("cam", "grad_cam", "recipro_cam"):
        if METHODS[name].needs <= capabilities:
            return METHODS[name]
    return METHODS["eigen_cam"]


def _require_match(backbone: Backbone, artefact: BankArtefact, bank_folder: Path) -> None:
    """Check that a bank was built for a backbone, by digest."""
    bank, manifest, parity = artefact.bank, backbone.manifest, backbone.parity
    if bank.backbone_digest != manifest.weights_digest:
        if parity is None or bank.backbone_digest != manifest.quantized_from:
            raise BundleMismatch(
                f"the bank in {bank_folder} was built for backbone {bank.backbone_digest}, but "
                f"the backbone is {manifest.architecture} {manifest.weights_digest}; build a bank "
                "for it"
            )
        if (artefact.bank_digest, artefact.vocabulary_digest) != parity.judged_with:
            raise BundleMismatch(
                f"the int8 backbone in {backbone.folder} was compared with its float form under "
                f"bank {parity.bank_digest}, not under the one in {bank_folder}; run `textcam "
                "quantize` with this bank"
            )


def _require_fingerprint(backbone: Backbone, artefact: BankArtefact) -> None:
    """Check that a backbone computes what it did when the bank was built, or it was compared."""
    expected, built, parity = artefact.bank.fingerprint, "the bank was built", backbone.parity
    if parity is not None:
        expected, built = parity.fingerprint, "it was compared with its float form"
    computed = backbone.fingerprint()
    scale = max(float(np.abs(expected).max()), 1e-6)
    rounded = backbone.precision in {"float16", "bfloat16"}
    tolerance = _ROUNDED_FINGERPRINT_TOLERANCE if rounded else _FINGERPRINT_TOLERANCE
    if computed.shape != expected.shape or not (
        np.abs(computed - expected).max() <= tolerance * scale
    ):
        raise BundleMismatch(
            f"the backbone does not compute what it computed when {built}, although "
            f"its manifest says that it is the same; {_remedy(parity)}"
        )


def _remedy(parity: ParityReport | None) -> str:
    if parity is None:
        return "export it again, or build the bank again"
    if parity.machine:
        return "run `textcam parity` again"
    # Without VNNI, sums of 8-bit products overflow 16 bits.
    return "run `textcam quantize` on a machine like this one, or with --reduce-range"
