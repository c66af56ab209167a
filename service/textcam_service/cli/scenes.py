"""`textcam scenes`: render images of the built-in world."""

from __future__ import annotations

from pathlib import Path

import click

from textcam_service.cli.shared.options import OUTPUT, require_extra


@click.command(short_help="Render images of the built-in world.")
@click.option(
    "--count", type=click.IntRange(1), default=4000, show_default=True, help="Number of scenes."
)
@click.option("--seed", default=50, show_default=True, help="Seed of the scenes.")
@click.option("--biased", is_flag=True, help="Render the biased world.")
@click.option(
    "--output",
    type=OUTPUT,
    default=Path("build/scenes/probing"),
    show_default=True,
    help="Folder for the images, vocabulary.txt and truth.json.",
)
def scenes(count: int, seed: int, biased: bool, output: Path) -> None:
    """Render scenes of the built-in world, ten classes in turn, with their ground truth."""
    require_extra("offline")
    from tqdm import tqdm  # noqa: PLC0415 - of the offline extra

    from textcam_service.scenes.classes import BIASED  # noqa: PLC0415 - numpy
    from textcam_service.scenes.probing import render_probing_set  # noqa: PLC0415

    with tqdm(total=count, desc="rendering", disable=None) as bar:
        render_probing_set(
            output,
            count,
            seed,
            BIASED if biased else None,
            lambda done: (bar.update(done), None)[1],
        )
    click.echo(f"{output}: {count} scenes, vocabulary.txt and truth.json")
