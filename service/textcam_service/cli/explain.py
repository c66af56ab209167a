"""`textcam explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from textcam_client import Contrast, Explanation, TopK


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
    r"""Explain images with a running server.

    \b
      textcam explain cat.jpg --output explained/
      textcam explain cat.jpg --class "tabby" --against "tiger cat"
    """
    # Late, so that `textcam --help` stays quick.
    from textcam_client import Client, TextCamClientError  # noqa: PLC0415

    target = _target(class_name, against, top_k)
    if output:
        output.mkdir(parents=True, exist_ok=True)
    failed = 0
    taken: set[str] = set()
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
            _print(path, answer, as_json)
            if output:
                picture = output / _free_name(path.stem, taken)
                _draw(answer, picture)
                click.echo(f"  {picture}", err=as_json)
    if failed:
        raise click.ClickException(f"{failed} of {len(images)} images were not explained")


def _target(class_name: str | None, against: str | None, top_k: int) -> str | TopK | Contrast:
    from textcam_client import Contrast, TopK  # noqa: PLC0415 - as above

    if against and not class_name:
        raise click.UsageError("--against goes with --class")
    if class_name and against:
        return Contrast(class_name, against)
    return class_name or TopK(top_k)


def _print(path: Path, answer: Explanation, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"image": str(path), **answer.to_dict()}))
        return
    click.echo(f"{path}")
    for prediction in answer.predictions:
        click.echo(f"  {prediction.probability:6.1%}  {prediction.class_name}")
    for explanation in answer.explanations:
        click.echo(f"  {explanation.sentence}")


def _draw(answer: Explanation, picture: Path) -> None:
    from textcam_client import draw_figure  # noqa: PLC0415 - only where pictures are wanted

    draw_figure(answer).save(picture)


def _free_name(stem: str, taken: set[str]) -> str:
    """Two images of one name in different folders both keep their picture."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return f"{name}.png"
