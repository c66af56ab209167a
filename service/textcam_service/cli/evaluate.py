"""`textcam evaluate` and `textcam scenes`: judge explanations by truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from textcam_service.cli.common import OUTPUT, known_method, need

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.option("--backbone", type=_FOLDER, required=True, help="Backbone folder.")
@click.option("--bank", type=_FOLDER, required=True, help="Bank folder.")
@click.option(
    "--truth",
    default="scenes",
    show_default=True,
    help="'scenes' (rendered; for a backbone that knows the ten classes of scenes) or a truth "
    "file: JSON with images, their true phrases and classes' true phrases.",
)
@click.option(
    "--count",
    type=click.IntRange(10),
    default=500,
    show_default=True,
    help="How many scenes; the maps of all are held in memory.",
)
@click.option(
    "--seed",
    default=100,
    show_default=True,
    help="Of the scenes; take another one than the bank's and than that settings were chosen by.",
)
@click.option(
    "--method",
    default="",
    callback=known_method,
    help="The CAM method; default: the bundle's own.",
)
@click.option(
    "--embedder",
    default=None,
    help="Of the bank: for the control that asks it alone, and to calibrate controls anew.",
)
@click.option(
    "--biased-backbone", type=_FOLDER, default=None, help="The twin from the biased world."
)
@click.option("--biased-bank", type=_FOLDER, default=None, help="Its bank.")
@click.option(
    "--output",
    type=OUTPUT,
    default=Path("build/evaluation"),
    show_default=True,
    help="Folder for report.json, report.txt and report.png.",
)
def evaluate(
    backbone: Path,
    bank: Path,
    truth: str,
    count: int,
    seed: int,
    method: str,
    embedder: str | None,
    biased_backbone: Path | None,
    biased_bank: Path | None,
    output: Path,
) -> None:
    """Judge a model's explanations by truth: words, place, faithfulness, spurious cues.

    \b
      textcam export --model scenes:classifier --output build/scenes/backbone
      textcam scenes --count 4000 --output build/scenes/probing
      textcam bank build --backbone build/scenes/backbone --images build/scenes/probing \\
          --embedder scenes --vocabulary build/scenes/probing/vocabulary.txt \\
          --rationale repeat_class=true --rationale min_probability=0 \\
          --output build/scenes/bank
      textcam evaluate --backbone build/scenes/backbone --bank build/scenes/bank

    A truth file for photographs:
    {"images": [{"file": "a.jpg", "class_index": 3, "phrases": ["dog"], "doubtful": ["puppy"]}],
    "class_phrases": {"3": ["dog", "animal"]}}. Classes go by the backbone's order; phrases
    are those of the bank's vocabulary, in any letter case. Doubtful ones are judged neither right
    nor wrong, and a phrase that is neither true nor doubtful is wrong.
    """
    need("offline")
    from textcam_service.model.bundle import ModelBundle  # noqa: PLC0415 - onnxruntime
    from textcam_service.offline.banks.probing import read_probing  # noqa: PLC0415 - torch
    from textcam_service.offline.embedders.loading import load_embedder  # noqa: PLC0415 - torch
    from textcam_service.offline.evaluation.cases import read_truth, scene_truth  # noqa: PLC0415
    from textcam_service.offline.evaluation.report import as_text, write_report  # noqa: PLC0415
    from textcam_service.offline.evaluation.run import evaluate as run  # noqa: PLC0415 - torch

    twin = None
    if biased_backbone is not None and biased_bank is not None:
        twin = replace(ModelBundle.load("biased", biased_backbone, biased_bank), method_name=method)
    elif biased_backbone is not None or biased_bank is not None:
        raise click.UsageError("--biased-backbone and --biased-bank go together")
    bundle = replace(ModelBundle.load("evaluated", backbone, bank), method_name=method)
    report = run(
        bundle,
        scene_truth(count, seed) if truth == "scenes" else read_truth(Path(truth)),
        embedder=load_embedder(embedder) if embedder else None,
        probing=read_probing(bank),
        biased=twin,
        progress=lambda step: click.echo(f"{step} ...", err=True),
    )
    click.echo(as_text(report))
    click.echo("\n" + "\n".join(str(path) for path in write_report(report, output)))


@click.command()
@click.option("--count", type=click.IntRange(1), default=4000, show_default=True, help="How many.")
@click.option("--seed", default=50, show_default=True, help="Of the set.")
@click.option("--biased", is_flag=True, help="Of the biased world.")
@click.option(
    "--output",
    type=OUTPUT,
    default=Path("build/scenes/probing"),
    show_default=True,
    help="Folder for the pictures, vocabulary.txt and truth.json.",
)
def scenes(count: int, seed: int, biased: bool, output: Path) -> None:
    """Render scenes of the built-in world, ten classes in turn, with their truth."""
    need("offline")
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
