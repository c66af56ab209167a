"""`textcam explain`: explain images with a running server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from textcam_service.cli.shared.connection import server_options
from textcam_service.cli.shared.options import OUTPUT, AliasedOption
from textcam_service.cli.shared.parameters import (
    NumberRange,
    image_files,
    known_method,
    phrase_kinds,
)
from textcam_service.cli.shared.printing import ResultFolders, print_result
from textcam_service.cli.shared.targets import parse_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from textcam_client import Client, ExplainResult, TextCamClientError

_IN_FLIGHT = 4


@click.command()
@click.argument(
    "images", nargs=-1, required=True, type=click.Path(path_type=Path), callback=image_files
)
@server_options
@click.option("--model", default=None, help="Name of the model; needed if the server has several.")
@click.option("--version", default=None, help="Version of the model.  [default: the current one]")
@click.option(
    "--output",
    type=OUTPUT,
    default=None,
    help="Folder for a picture per image: the photo, the heatmap, and a map for each phrase.",
)
@click.option(
    "--masks",
    type=OUTPUT,
    default=None,
    help="Folder for pseudo-masks. Per image: a label map and contours as PNG, and JSON with the "
    "masks (RLE) and the boxes of their regions of at least 0.1 % of the image, or of the largest "
    "region.",
)
@click.option(
    "--top-k",
    type=click.IntRange(1),
    default=None,
    help="Explain the k most probable classes.  [default: 1]",
)
@click.option("--class", "class_name", default=None, help="Explain this class: a name or an index.")
@click.option("--against", default=None, help="Explain why --class rather than this class.")
@click.option(
    "--method",
    default=None,
    callback=known_method,
    help="CAM method: cam, grad_cam, score_cam ... Methods that run the network many times, above "
    "all ss_cam, may need a server with a higher --max-passes.  [default: the model's]",
)
@click.option(
    "max_phrases",
    "--max-phrases",
    "--phrases",
    cls=AliasedOption,
    type=click.IntRange(1),
    default=None,
    help="Most phrases per class.  [default: the server's]",
)
@click.option(
    "--min-probability",
    type=NumberRange("probability", min=0, max=1),
    default=None,
    help="Leave out phrases that are less probable than this.  [default: the bank's]",
)
@click.option(
    "--kinds",
    multiple=True,
    callback=phrase_kinds,
    help="Only phrases of these kinds, separated by commas: thing, part, material, texture, "
    "colour, shape, scene, category. May be given more than once.",
)
@click.option(
    "--repeat-class", is_flag=True, help="Allow phrases that only repeat the name of the class."
)
@click.option(
    "--timeout",
    type=NumberRange("number of seconds", min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Time limit per image, in seconds.",
)
@click.option(
    "--wait",
    type=NumberRange("number of seconds", min=0),
    default=0.0,
    show_default=True,
    help="Wait up to this many seconds until the server is ready.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per image.")
def explain(  # noqa: PLR0913, PLR0917 - one argument per option
    images: tuple[Path, ...],
    connect: Callable[..., Client],
    model: str | None,
    version: str | None,
    output: Path | None,
    masks: Path | None,
    top_k: int | None,
    class_name: str | None,
    against: str | None,
    method: str | None,
    max_phrases: int | None,
    min_probability: float | None,
    kinds: tuple[str, ...],
    repeat_class: bool,
    timeout: float,
    wait: float,
    as_json: bool,
) -> None:
    """Explain images with a running server.

    Prints, for each image, the predicted classes, a sentence, and the phrases that the network
    saw in it.

    \b
      textcam explain cat.jpg --output explained/
      textcam explain cat.jpg --class "tiger cat" --against "red fox"
      textcam explain cat.jpg --min-probability 0.8 --kinds part,texture
      textcam explain cat-and-dog.jpg --top-k 2 --masks masks/
      textcam explain cat.jpg --server HOST:PORT --ca ca.crt --token-file token
    """
    target = parse_target(class_name, against, top_k)
    folders = ResultFolders(output, masks)
    folders.create()
    failed = 0
    with connect(timeout=timeout) as client:
        if wait:
            _wait_ready(client, wait)
        results = client.explain_many(
            images,
            target=target,
            model=model,
            version=version,
            max_phrases=max_phrases,
            min_probability=min_probability,
            kinds=kinds,
            repeat_class=repeat_class,
            method=method,
            on_error="return",
            concurrency=_IN_FLIGHT,
        )
        for path, result in zip(images, _received(results), strict=True):
            error = _show(path, result, folders, as_json)
            if error is not None:
                failed += 1
                click.echo(f"{click.format_filename(path)}: {error}", err=True)
    if failed:
        done = "explained and drawn" if output or masks else "explained"
        raise click.ClickException(f"{failed} of {len(images)} images were not {done}")


def _wait_ready(client: Client, seconds: float) -> None:
    """Wait for the server.

    Raises:
        click.ClickException: It did not answer in time; the message lists what to check.
    """
    from textcam_client import DeadlineExceeded  # noqa: PLC0415 - --help stays quick

    try:
        client.wait_ready(seconds)
    except DeadlineExceeded as error:
        server = click.get_current_context().params["server"]
        raise click.ClickException(
            f"no TextCAM server responded at {server} in {seconds:g} s: is it running, is the port "
            "right, does it need TLS?"
        ) from error


def _received(
    results: Iterable[ExplainResult | TextCamClientError],
) -> Iterator[ExplainResult | TextCamClientError]:
    """Yield the results; a server that cannot be reached raises once, not for each image.

    Raises:
        Unavailable: No server took the first image that was sent.
    """
    from textcam_client import ImageError, Unavailable  # noqa: PLC0415 - --help stays quick

    reached = False
    for result in results:
        # With a reason, a server or an established connection failed, for this image alone.
        if isinstance(result, Unavailable) and not result.reason and not reached:
            raise result
        reached = reached or not isinstance(result, ImageError)
        yield result


def _show(
    path: Path, result: ExplainResult | TextCamClientError, folders: ResultFolders, as_json: bool
) -> TextCamClientError | None:
    """Print a result and write its files; return the error of the request or of the image."""
    from textcam_client import TextCamClientError  # noqa: PLC0415 - --help stays quick

    if isinstance(result, TextCamClientError):
        return result
    print_result(path, result, as_json)
    try:
        for written in folders.write(path, result):
            click.echo(f"  {click.format_filename(written)}", err=as_json)
    except TextCamClientError as error:  # the image file is gone, or has changed since
        return error
    return None
