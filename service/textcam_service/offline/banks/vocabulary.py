"""Another vocabulary for a bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from textcam_service.artefacts.bank import (
    BankArtefact,
    ConceptBank,
    Vocabulary,
    read_bank,
    write_bank,
)
from textcam_service.core.types import Float32Array
from textcam_service.errors import BundleMismatch
from textcam_service.offline.banks.attribute_tables import Tables, read_tables_of
from textcam_service.offline.banks.phrase_sources import PhraseSources
from textcam_service.offline.banks.phrase_supports import bank_supports, chosen_phrases
from textcam_service.offline.banks.probing import read_probing
from textcam_service.offline.embedders.base import (
    TEMPLATES,
    Embedder,
    embed_with_templates,
    require_embedder,
)
from textcam_service.runtime.backbone import Backbone


def replace_vocabulary(
    folder: Path,
    embedder: Embedder,
    phrases: Sequence[str],
    output: Path,
    *,
    backbone: Backbone | None = None,
    kinds: Sequence[str] = (),
    tables: Tables | None = None,
) -> tuple[BankArtefact, tuple[str, ...]]:
    """Write a bank with other phrases; needs no images.

    Phrases that the bank has keep their data. Other phrases are grounded by the data of the probing
    images in the bank.

    Args:
        folder: Folder of the bank.
        embedder: Embedder that the bank was built with.
        phrases: The vocabulary.
        output: Folder of the new bank; an existing bank is replaced.
        backbone: Backbone that the bank was built for; needed for phrases that the bank lacks.
        kinds: Kind of each phrase; empty: not known.
        tables: The user's tables of classes and phrases; None: there are none.

    Returns:
        The new bank, and the phrases that it cannot ground: they are never chosen.

    Raises:
        BundleMismatch: The embedder or the backbone is not the bank's, or a table is given to a
            bank without data of its probing images.
    """
    artefact = read_bank(folder)
    bank, known = artefact.bank, artefact.vocabulary
    kept = None if bank.supports is None else read_probing(folder)
    _require_own(bank, embedder, backbone)
    if tables is not None and (kept is None or backbone is None):
        raise BundleMismatch(
            f"the bank in {folder} has no data of its probing images, like the packaged bank, so "
            "that no table can ground new phrases; build a bank with the table"
            if kept is None
            else "a table grounds phrases by the bank's backbone; give the backbone too"
        )
    texts = embedded(embedder, phrases, known)
    own_kinds = tuple(kinds) if any(kinds) else _known_kinds(phrases, known)
    vocabulary = Vocabulary(
        tuple(phrases), texts, embedder.identity, own_kinds if any(own_kinds) else ()
    )
    supports, all_tables = None, tables or Tables()
    if kept is not None:
        all_tables = all_tables.over(read_tables_of(folder))
    if bank.supports is not None:
        if backbone is not None and kept is not None:
            sources = PhraseSources(kept, backbone, embedder, all_tables)
            supports = bank_supports(sources, vocabulary, bank.rationale)
        else:
            supports = chosen_phrases(bank.supports, known.phrases, phrases)
    probing = None
    if kept is not None:
        probing = (
            kept.tensors(),
            {"images": len(kept.scores), "tables": all_tables.manifest()},
        )
    write_bank(output, replace(bank, supports=supports), vocabulary, probing)
    ungrounded = () if supports is None else np.flatnonzero(~supports.calibration.grounded)
    return read_bank(output), tuple(phrases[int(place)] for place in ungrounded)


def _require_own(bank: ConceptBank, embedder: Embedder, backbone: Backbone | None) -> None:
    require_embedder(embedder, bank.embedder)
    if backbone is not None and backbone.manifest.weights_digest != bank.backbone_digest:
        raise BundleMismatch(
            f"the bank was built for backbone {bank.backbone_digest}, and this one is "
            f"{backbone.manifest.weights_digest}; give the bank's own"
        )


def _known_kinds(phrases: Sequence[str], known: Vocabulary) -> tuple[str, ...]:
    """Take the phrases' kinds from a vocabulary, whatever their letter case."""
    pairs = zip(known.phrases, known.kinds, strict=False)
    kinds = {phrase.casefold(): kind for phrase, kind in pairs}
    return tuple(kinds.get(phrase.casefold(), "") for phrase in phrases)


def embedded(embedder: Embedder, phrases: Sequence[str], known: Vocabulary) -> Float32Array:
    """Embed phrases in all templates: (V, E) unit vectors.

    Args:
        embedder: The embedder.
        phrases: The V phrases.
        known: Vocabulary whose embeddings are taken where it has the phrase, rounded as they are
            stored; of no use if another embedder made it.
    """
    rows: dict[str, Float32Array] = {}
    if known.embedder == embedder.identity:
        rows = dict(zip(known.phrases, known.embeddings, strict=True))
    new = [phrase for phrase in phrases if phrase not in rows]
    if new:
        rows |= dict(zip(new, embed_with_templates(embedder, new, TEMPLATES), strict=True))
    return np.stack([rows[phrase] for phrase in phrases])
