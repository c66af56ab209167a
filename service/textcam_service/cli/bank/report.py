"""Lines that the commands of `textcam bank` print about a bank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from textcam_service.artefacts.bank import BankArtefact

_SHOWN, _ENOUGH, _RECOGNISED = 10, 300, 0.7


def summary(artefact: BankArtefact) -> str:
    """Summarise a bank in a line: sizes and digests."""
    channels, dimensions = artefact.bank.channel_embeddings.shape
    bank, vocabulary = artefact.bank_digest[:19], artefact.vocabulary_digest[:19]
    return (
        f"{channels} channels ({int(artefact.bank.dead.sum())} dead) x {dimensions} dimensions, "
        f"{len(artefact.vocabulary.phrases)} phrases, bank {bank}, vocabulary {vocabulary}"
    )


def print_calibration(artefact: BankArtefact) -> None:
    """Print how well probabilities fit the probing images, and phrases that are never chosen."""
    if artefact.bank.supports is None:
        return
    calibration = artefact.bank.supports.calibration
    of_classes = ", which describe classes, not single images" if calibration.temperature else ""
    click.echo(
        f"probabilities by {calibration.source} of {calibration.images} images: expected "
        f"calibration error {calibration.expected_error:.3f} by their soft labels{of_classes}"
    )
    recognition = artefact.bank.parameters.get("recognition")
    if recognition is not None and recognition < _RECOGNISED:
        click.echo(
            f"the embedder hardly distinguishes the network's classes by their names "
            f"({recognition:.2f}; chance: 0.50). If the names are plain words, its phrases and "
            "their probabilities mean nothing: use another CLIP, or the default",
            err=True,
        )
    if calibration.images < _ENOUGH:
        click.echo(
            f"{calibration.images} probing images are few: phrases will be poor, and their "
            "probabilities rest on little data; a thousand is better",
            err=True,
        )
    phrases = artefact.vocabulary.phrases
    print_ungrounded(
        [p for p, known in zip(phrases, calibration.grounded, strict=True) if not known]
    )


def print_unused(tables: Any, phrases: Sequence[str]) -> None:
    """Print phrases of the user's table that the vocabulary lacks."""
    if tables is not None and (unused := tables.unused(phrases)):
        click.echo(
            f"the table has {len(unused)} phrases that the vocabulary lacks: "
            f"{', '.join(unused[:_SHOWN])}{' ...' if len(unused) > _SHOWN else ''}",
            err=True,
        )


def print_ungrounded(phrases: Sequence[str]) -> None:
    """Print phrases that no source grounds."""
    if phrases:
        shown = ", ".join(phrases[:_SHOWN]) + (" ..." if len(phrases) > _SHOWN else "")
        click.echo(
            f"no source grounds {len(phrases)} of the phrases, so supports never choose them: "
            f"{shown}. A table (--attributes, with --backbone) or a CLIP (--embedder "
            "open_clip:...) grounds them",
            err=True,
        )
