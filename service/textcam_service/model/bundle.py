"""A model bundle: backbone, bank and vocabulary that were made for each other."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from textcam_service.artefacts.bank import FILES, BankArtefact, read_bank
from textcam_service.artefacts.files import file_digests, version_of
from textcam_service.artefacts.parity import ParityReport
from textcam_service.core.cam import channel_evidence
from textcam_service.core.methods import (
    METHODS,
    CamTerms,
    Method,
    MethodInput,
    MethodSettings,
    run_method,
)
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.rationale import explain_target
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings, WordSettings
from textcam_service.core.rationale.wording import EmbeddingWording, SupportWording, Wording
from textcam_service.core.types import Float32Array, Float64Array, Prediction, Rationale
from textcam_service.core.vertices import Vertices, placed
from textcam_service.errors import BundleMismatch, UnknownClass, UnsupportedMethod
from textcam_service.imaging.resampling import RESAMPLER
from textcam_service.runtime.backbone import Backbone, BackboneOutput
from textcam_service.runtime.providers import DeviceOptions

# Of the largest activation score. In torch's fp16 on a CPU, EfficientNet-Lite0's are off by 5e-3,
# ResNet-50's (random weights) by 8e-4.
_FINGERPRINT_TOLERANCE = 1e-2
_FP16_FINGERPRINT_TOLERANCE = 2e-2
# Letters of an unknown name that are told and compared: a message may hold millions, and each takes
# time.
_LONGEST_NAME = 100


@dataclass(frozen=True)
class ModelBundle:
    """What the server serves under one name and version.

    Attributes:
        name: Of the model.
        version: Of the model; unless chosen, version_of its files, as in a store.
        backbone: Ready to run.
        artefact: Bank and vocabulary.
        settings: How rationales are made; those that the bank was built with, unless given.
        method_name: The CAM method where a request names none; empty: see default_method.
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
        words: WordSettings | None = None,
    ) -> ModelBundle:
        """Load and verify a bundle; `words` changes how the bank's builder had phrases chosen.

        Raises:
            ArtefactError: A file is missing or corrupt, or the parts do not match.
        """
        artefact = read_bank(bank_folder)
        backbone = Backbone(backbone_folder, providers=providers, threads=threads, device=device)
        _require_match(backbone, artefact, bank_folder)
        if not version:
            version = version_of(file_digests(bundle_files(backbone_folder, bank_folder)))
        settings = (words or WordSettings()).over(artefact.bank.rationale)
        return ModelBundle(name, version, backbone, artefact, settings)

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names, in order of index."""
        return self.backbone.manifest.class_names

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
        """Of the phrases' probabilities; None: the words go by embeddings, and have none."""
        supports = self.artefact.bank.supports
        by_supports = self.settings.wording == "supports" and supports is not None
        return supports.calibration if by_supports and supports is not None else None

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """V kinds of phrases, "" where the vocabulary does not say."""
        return self.artefact.vocabulary.kinds or ("",) * len(self.phrases)

    @cached_property
    def wording(self) -> Wording:
        """How evidence becomes phrases: by supports where the bank has them, else by embeddings."""
        bank, supports = self.artefact.bank, self.artefact.bank.supports
        if self.calibration is None or supports is None:
            own = bank.channel_embeddings, bank.mean_embedding, self.text_embeddings
            return EmbeddingWording(*own, self.kinds, self.settings)
        return SupportWording(supports, self.kinds, self.settings)

    @cached_property
    def _own_indices(self) -> dict[str, int]:
        return {name.strip(): index for index, name in enumerate(self.class_names)}

    @cached_property
    def _class_indices(self) -> dict[str, int]:
        return {name.strip().casefold(): index for index, name in enumerate(self.class_names)}

    def class_index(self, name: str, field_name: str) -> int:
        """Find a class by name, whatever its letter case.

        Raises:
            UnknownClass: No such class; the message offers the nearest names.
        """
        given = name.strip()
        if given in self._own_indices:  # "Turkey" and "turkey" may both be classes
            return self._own_indices[given]
        index = self._class_indices.get(given.casefold())
        if index is None:
            shown = given[:_LONGEST_NAME]
            near = self._near(shown.casefold())
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise UnknownClass(
                f"model '{self.name}' has no class named '{shown}'{hint}. GetModel, in Python "
                f"client.model().class_names, lists all {len(self.class_names)}; an index will do",
                field=field_name,
            )
        return index

    def _near(self, wanted: str) -> list[str]:
        """At most 5 names of classes: those spelt alike, then those that hold one of its words."""
        known = self._class_indices
        alike = difflib.get_close_matches(wanted, known, 5, 0.7)
        words = wanted.split()
        holding = [each for each in known if any(word in each for word in words)]
        return [self.class_names[known[each]] for each in dict.fromkeys(alike + holding)][:5]

    @property
    def methods(self) -> tuple[Method, ...]:
        """The CAM methods that the backbone can answer."""
        offers = self.backbone.offers
        return tuple(method for method in METHODS.values() if method.needs <= offers)

    @property
    def default_method(self) -> Method:
        """The chosen one; else CAM for a linear head, else the first that the head can answer.

        Raises:
            UnsupportedMethod: The backbone cannot answer the chosen one.
        """
        return self.method(self.method_name) if self.method_name else default_method(self.backbone)

    def method(self, name: str, field_name: str = "") -> Method:
        """Find a CAM method by its name.

        Raises:
            UnsupportedMethod: There is none, or the backbone cannot answer it; the message
                lists those that it can.
        """
        known = METHODS.get(name)
        if known in self.methods:
            return known
        supported = ", ".join(method.name for method in self.methods)
        if known is None:
            fault = f"there is no method '{name}'"
        else:
            missing = sorted(need.value for need in known.needs - self.backbone.offers)
            fault = f"{known.title} needs {' and '.join(missing)}; model '{self.name}' has none"
        raise UnsupportedMethod(f"{fault}; it supports {supported}", field=field_name or None)

    def subject(
        self,
        seen: BackboneOutput,
        image: Float32Array,
        target: Prediction,
        against: Prediction | None,
    ) -> MethodInput:
        """What a method is asked to explain; `image` is the network's input (3, h, w)."""
        rather = None if against is None else against.class_index
        return subject_of(self.backbone, seen, image, target.class_index, rather)

    def terms(
        self,
        seen: BackboneOutput,
        image: Float32Array,
        target: Prediction,
        against: Prediction | None,
    ) -> CamTerms:
        """What the default method finds.

        At once, in this thread: the server holds the same conversation between others' batches.

        Args:
            seen: What the backbone made of the image.
            image: (3, h, w) the network's input.
            target: What is explained, with its logit.
            against: Rather than what; None: the target's logit by itself.
        """
        subject = self.subject(seen, image, target, against)
        steps = self.default_method.steps(subject, MethodSettings())
        return run_method(steps, lambda ask: self.backbone.answer(ask, seen))

    def rationale(
        self,
        seen: BackboneOutput,
        terms: CamTerms,
        target: Prediction,
        against: Prediction | None,
        wish: PhraseFilter,
        vertices: Vertices | None = None,
    ) -> Rationale:
        """The words and groups of what a CAM method found.

        Args:
            seen: What the backbone made of the image.
            terms: What the method found.
            target: What is explained, with its logit.
            against: Rather than what; None: the target's logit by itself.
            wish: What is wanted of the words.
            vertices: Where the maps' vertices lie; None: their cells lie on a grid.
        """
        backbone = self.backbone
        biases = backbone.head_bias if len(backbone.head_bias) else np.zeros(len(self.class_names))
        logit, bias = target.logit, float(biases[target.class_index])
        if against is not None:
            logit -= against.logit
            bias -= float(biases[against.class_index])
        rationale = explain_target(
            seen.activation_maps,
            terms,
            seen.logits,
            logit,
            bias,
            self.phrases,
            self.wording,
            target.class_index,
            wish,
        )
        return rationale if vertices is None else placed(rationale, vertices)

    def parameters(self) -> dict[str, str]:
        """The method's parameters, for provenance."""
        built = self.artefact.bank.parameters.get("channel_settings", {})
        chosen = {f"rationale.{key}": value for key, value in asdict(self.settings).items()}
        ran = {"precision": self.backbone.precision, "resampler": RESAMPLER}
        return {key: str(value) for key, value in {**built, **chosen, **ran}.items()}


def default_method(backbone: Backbone) -> Method:
    """CAM for a linear head, else the first of a few that the head can answer."""
    offers = backbone.offers
    for name in ("cam", "grad_cam", "recipro_cam"):
        if METHODS[name].needs <= offers:
            return METHODS[name]
    return METHODS["eigen_cam"]


def subject_of(
    backbone: Backbone,
    seen: BackboneOutput,
    image: Float32Array,
    target: int,
    against: int | None = None,
) -> MethodInput:
    """What a method is asked to explain of an image (3, h, w): a class, rather than another."""
    class_weights = np.zeros(len(seen.logits))
    class_weights[target] = 1
    if against is not None:
        class_weights[against] = -1
    linear = backbone.head_weights if backbone.is_linear else None
    return MethodInput(
        seen.activation_maps,
        seen.logits,
        class_weights,
        image,
        linear,
        seen.layers,
        backbone.vertices(seen),
    )


def predicted_evidence(
    backbone: Backbone, seen: BackboneOutput, image: Float32Array
) -> Float64Array:
    """Each channel's evidence (D,) for the predicted class, by the default method."""
    subject = subject_of(backbone, seen, image, int(seen.logits.argmax()))
    steps = default_method(backbone).steps(subject, MethodSettings())
    terms = run_method(steps, lambda ask: backbone.answer(ask, seen))
    return channel_evidence(terms.weights, seen.activation_maps)


def bundle_files(backbone: Path, bank: Path) -> dict[str, Path]:
    """The files of a bundle in two folders, by their paths in a store."""
    found = {
        f"backbone/{path.name}": path
        for path in sorted(backbone.iterdir())
        if path.is_file() and not path.name.startswith(".")
    }
    return found | {f"bank/{file}": bank / file for file in FILES}


def _require_match(backbone: Backbone, artefact: BankArtefact, bank_folder: Path) -> None:
    bank, manifest, parity = artefact.bank, backbone.manifest, backbone.parity
    expected, built = bank.fingerprint, "the bank was built"
    if bank.backbone_digest != manifest.weights_digest:
        if parity is None or bank.backbone_digest != manifest.quantised_from:
            raise BundleMismatch(
                f"the bank in {bank_folder} was built for backbone {bank.backbone_digest}, but "
                f"the backbone is {manifest.architecture} {manifest.weights_digest}; build a bank "
                "for it"
            )
        if (artefact.bank_digest, artefact.vocabulary_digest) != parity.judged_with:
            raise BundleMismatch(
                f"the int8 backbone in {backbone.folder} was compared with its float form under "
                f"bank {parity.bank_digest}, not under the one in {bank_folder}; run `textcam "
                "quantise` with this bank"
            )
        expected, built = parity.fingerprint, "it was compared with its float form"
    computed = backbone.fingerprint()
    scale = max(float(np.abs(expected).max()), 1e-6)
    rounded = backbone.precision == "float16"
    tolerance = _FP16_FINGERPRINT_TOLERANCE if rounded else _FINGERPRINT_TOLERANCE
    if computed.shape != expected.shape or not (
        np.abs(computed - expected).max() <= tolerance * scale
    ):
        raise BundleMismatch(
            f"the backbone does not compute what it computed when {built}, although "
            f"its manifest says that it is the same; {_mend(parity)}"
        )


def _mend(parity: ParityReport | None) -> str:
    if parity is None:
        return "export it again, or build the bank again"
    # Without VNNI, sums of 8-bit products overflow 16 bits.
    return "run `textcam quantise` on a machine like this one, or with --reduce-range"
