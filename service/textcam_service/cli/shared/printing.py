"""Results of `textcam explain`: text on the terminal, and files per image."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from textcam_service.cli.shared.mask_files import whole_file, write_masks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textcam_client import ExplainResult, Explanation


@dataclass
class ResultFolders:
    """Folders for the files of a run.

    Attributes:
        pictures: Gets a picture per image; None: no pictures.
        masks: Gets the masks of each image; None: no masks.
    """

    pictures: Path | None
    masks: Path | None
    _taken: set[str] = field(default_factory=set)

    def create(self) -> None:
        """Create the folders.

        Raises:
            OSError: A folder cannot be created.
        """
        for folder in (self.pictures, self.masks):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)

    def write(self, path: Path, result: ExplainResult) -> Iterator[Path]:
        """Write an image's files, and yield the path of each kind.

        Raises:
            OSError: A file cannot be written.
            TextCamClientError: The image file is gone or has changed since it was sent.
        """
        name = self.free_name(path.stem)
        if self.pictures is not None:
            from textcam_client import draw_figure  # noqa: PLC0415 - slow

            picture = self.pictures / f"{name}.png"
            with whole_file(picture) as part:
                draw_figure(result).save(part, "PNG")
            yield picture
        if self.masks is not None:
            write_masks(path, result, self.masks / name)
            yield self.masks / f"{name}.json"

    def free_name(self, stem: str) -> str:
        """Choose a name for an image's files that no other image of the run has."""
        name, number = stem, 1
        while not self._taken.isdisjoint((name, f"{name}-contours")):
            number += 1
            name = f"{stem}-{number}"
        self._taken |= {name, f"{name}-contours"}
        return name


def print_result(path: Path, result: ExplainResult, as_json: bool) -> None:
    """Print an image's predictions, sentences and phrases, or all of it as a line of JSON."""
    if as_json:
        click.echo(json.dumps({"image": str(path), **result.to_dict()}))
        return
    click.echo(click.format_filename(path))
    for prediction in result.predictions:
        click.echo(f"  {prediction.probability:6.1%}  {prediction.class_name}")
    for explanation in result.explanations:
        click.echo(f"  {explanation.sentence}")
        for line in phrase_lines(explanation):
            click.echo(f"    {line}")


def phrase_lines(explanation: Explanation) -> Iterator[str]:
    """Format the phrases as a table: probability, share, effect, text and kind."""
    from textcam_client.figure import wording  # noqa: PLC0415 - --help stays quick

    rows = [("true", "share", "effect", "phrase")] if explanation.phrases else []
    for phrase in explanation.phrases:
        share = wording.amount(explanation, phrase.evidence)
        effect = wording.effect(explanation, phrase)
        kind = f" ({phrase.kind})" if phrase.kind else ""
        rows.append((wording.chance(phrase) or "-", share, effect or "-", f"{phrase.text}{kind}"))
    for chance, share, effect, text in rows:
        yield f"{chance:>4}  {share:>6}  {effect:>6}  {text}"
