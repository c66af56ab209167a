"""`textcam evaluate`: score explanations against ground truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from textcam_service.cli.shared.options import OUTPUT, require_extra
from textcam_service.cli.shared.parameters import known_method

_FOLDER = click.Path(path_type=Path)


@click.command(short_help="Score explanations against ground truth.")
@click.option("--backbone", type=_FOLDER, required=True, help="Backbone folder.")
@click.option("--bank", type=_FOLDER, required=True, help="Bank folder.")
@click.option(
    "--truth",
    default="scenes",
    show_default=True,
    help="'scenes' (rendered, for a backbone of the ten classes of scenes), or a JSON file with "
    "images, their true phrases and the classes' true phrases.",
)
@click.option(
    "--count",
    type=click.IntRange(10),
    default=500,
    show_default=True,
    help="Number of scenes; the maps of all are held in memory.",
)
@click.option(
    "--seed",
    default=100,
    show_default=True,
    help="Seed of the scenes. Use a different one than for the bank and for choosing settings.",
)
@click.option(
    "--method",
    default="",
    callback=known_method,
    help="CAM method.  [default: the model's]",
)
@click.option(
    "--embedder",
    default=None,
    help="Embedder of the bank, for the control that uses it alone, and to calibrate controls.",
)
@click.option(
    "--biased-backbone",
    type=_FOLDER,
    default=None,
    help="Backbone folder of the twin from the biased world.",
)
@click.option("--biased-bank", type=_FOLDER, default=None, help="Bank folder of the twin.")
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
    """Score a model's explanations: phrases, localization, faithfulness, spurious cues.

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
    "class_phrases": {"3": ["dog", "animal"]}}. A class is its index in the backbone; phrases are
    those of the bank's vocabulary, in any letter case. A phrase that is neither true nor doubtful
    counts as wrong; a doubtful one does not count.
    """
    require_extra("offline")
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
