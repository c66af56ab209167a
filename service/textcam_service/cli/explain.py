"""`textcam explain`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--server", default="127.0.0.1:50051", show_default=True, help="HOST:PORT.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder for one picture per image: photo, heatmap, each phrase's map.",
)
@click.option(
    "--top-k",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Explain the k most probable classes.",
)
@click.option("--class", "class_name", default=None, help="Explain this class instead.")
@click.option("--against", default=None, help="With --class: rather than that one.")
@click.option("--phrases", type=click.IntRange(1), default=None, help="Phrases per class.")
@click.option("--timeout", type=float, default=30.0, show_default=True, help="Seconds per image.")
@click.option("--wait", type=float, default=0.0, help="Wait so many seconds for the server.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per image and line.")
def explain(
    images: tuple[Path, ...],
    server: str,
    output: Path | None,
    top_k: int,
    class_name: str | None,
    against: str | None,
    phrases: int | None,
    timeout: float,
    wait: float,
    as_json: bool,
) -> None:
    """Explain images with a running server.

    \b
      textcam explain cat.jpg --output explained/
      textcam explain cat.jpg --class "tabby cat" --against "tiger cat"
    """
    # Late, so that `textcam --help` stays quick.
    from textcam_client import (  # noqa: PLC0415
        Client,
        Contrast,
        TextCamClientError,
        TopK,
        draw_figure,
    )

    if against and not class_name:
        raise click.UsageError("--against goes with --class")
    target: object = TopK(top_k)
    if class_name:
        target = Contrast(class_name, against) if against else class_name
    if output:
        output.mkdir(parents=True, exist_ok=True)
    failed = 0
    with Client(server, timeout=timeout) as client:
        if wait:
            client.wait_ready(wait)
        answers = client.explain_many(
            images, target=target, phrases=phrases, on_error="return", concurrency=4
        )
        for path, answer in zip(images, answers, strict=True):
            if isinstance(answer, TextCamClientError):
                failed += 1
                click.echo(f"{path}: {answer}", err=True)
                continue
            if as_json:
                click.echo(json.dumps({"image": str(path), **answer.to_dict()}))
            else:
                click.echo(f"{path}")
                for prediction in answer.predictions:
                    click.echo(f"  {prediction.probability:6.1%}  {prediction.class_name}")
                for explanation in answer.explanations:
                    click.echo(f"  {explanation.sentence}")
            if output:
                picture = _free_name(output, path.stem)
                draw_figure(answer).save(picture)
                if not as_json:
                    click.echo(f"  {picture}")
    if failed:
        raise click.ClickException(f"{failed} of {len(images)} images were not explained")


def _free_name(folder: Path, stem: str) -> Path:
    """Two images of one name in different folders both keep their picture."""
    if not (folder / f"{stem}.png").exists() or stem not in _TAKEN:
        _TAKEN.add(stem)
        return folder / f"{stem}.png"
    number = 2
    while f"{stem}-{number}" in _TAKEN:
        number += 1
    _TAKEN.add(f"{stem}-{number}")
    return folder / f"{stem}-{number}.png"


_TAKEN: set[str] = set()
