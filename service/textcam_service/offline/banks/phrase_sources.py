"""Sources that ground a vocabulary's phrases in the probing images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from textcam_service.artefacts.bank import Vocabulary
from textcam_service.core.probability import class_probabilities
from textcam_service.offline.banks.attribute_tables import (
    Table,
    Tables,
    knows_imagenet,
    packaged_table,
)
from textcam_service.offline.banks.grounding import (
    Grounding,
    by_class_table,
    by_labels,
    by_scores,
    first_grounded,
)
from textcam_service.offline.banks.probing import Probing
from textcam_service.offline.embedders.base import ClassifierEmbedder, Embedder
from textcam_service.runtime.backbone import Backbone


@dataclass(frozen=True)
class PhraseSources:
    """Sources by which phrases are grounded.

    Attributes:
        probing: Data of the probing images.
        backbone: The served backbone.
        embedder: Embedder of the bank.
        tables: The user's tables.
    """

    probing: Probing
    backbone: Backbone
    embedder: Embedder
    tables: Tables = field(default_factory=Tables)


def ground_phrases(sources: PhraseSources, vocabulary: Vocabulary) -> Grounding:
    """Ground each phrase in the probing images by its best source."""
    probing, backbone, embedder = sources.probing, sources.backbone, sources.embedder
    tables, phrases = sources.tables, vocabulary.phrases
    names = backbone.manifest.class_names
    found = []
    if isinstance(embedder, ClassifierEmbedder):
        of_head = knows_imagenet(names) and not backbone.manifest.multi_label
        added = tables.own if of_head else tables.imagenet
        table: Table = {**packaged_table(), **_as_packaged(added)}
        found.append(by_class_table(probing.opinions, table, phrases, of_head=of_head))
        labelled = bool((probing.labels >= 0).any())
        if tables.own and (labelled or not of_head):
            found.insert(0, _own_classes(probing, phrases, backbone, tables.own))
    else:
        found.append(by_scores(probing.embeddings, vocabulary.embeddings, embedder.logit_scale))
        if tables.own:
            found.insert(0, _own_classes(probing, phrases, backbone, tables.own))
    return first_grounded(found)


def _as_packaged(table: Table) -> Table:
    """Spell the phrases of a user's lines as the packaged table does."""
    spelt = {phrase.casefold(): phrase for phrase in packaged_table()}
    return {spelt.get(phrase.casefold(), phrase): row for phrase, row in table.items()}


def _own_classes(
    probing: Probing, phrases: Sequence[str], backbone: Backbone, table: Table
) -> Grounding:
    classes, multi_label = len(backbone.manifest.class_names), backbone.manifest.multi_label
    labelled = probing.labels >= 0
    shares = np.eye(classes, dtype=np.float32)[np.where(labelled, probing.labels, 0)]
    if not labelled.all():
        own = class_probabilities(probing.logits, multi_label=multi_label).astype(np.float32)
        shares = np.where(labelled[:, None], shares, own)
    any_labels = bool(labelled.any())
    return by_labels(shares, table, phrases, labelled=any_labels, multi_label=multi_label)
