"""`textcam explain`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textcam_service.cli.common import OUTPUT, known_method
from textcam_service.cli.connection import server_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from textcam_client import (
        Box,
        Client,
        Contrast,
        ExplainResult,
        Explanation,
        TextCamClientError,
        TopK,
    )
    from textcam_client.masks.connected_components import BoolArray

# Part of the image; regions of a mask below it get no box, unless all are.
_SMALLEST_BOX = 0.001


class _Range(click.FloatRange):
    """A range of numbers; click's own lets nan through."""

    def __init__(self, what: str, **limits: Any) -> None:
        super().__init__(**limits)
        self._what = what

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is no {self._what}.", param, ctx)
        return number


def _no_folders(
    _: click.Context, __: click.Parameter, images: tuple[Path, ...]
) -> tuple[Path, ...]:
    for path in images:
        if path.is_dir():
            name = click.format_filename(path)
            raise click.BadParameter(f"{name} is a folder; for the images in it: {name}/*")
    return images


def _kind_names(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds that several options, or one with commas, name."""
    from textcam_client._convert.requests import PHRASE_KINDS  # noqa: PLC0415 - as below

    names = tuple(name.strip().lower() for several in given for name in several.split(","))
    for name in names:
        if name not in PHRASE_KINDS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(PHRASE_KINDS)}.")
    return names


@click.command()
@click.argument(
    "images", nargs=-1, required=True, type=click.Path(path_type=Path), callback=_no_folders
)
@server_options
@click.option("--model", default=None, help="Of several that the server has: this one.")
@click.option("--version", default=None, help="Of the model; default: the current one.")
@click.option(
    "--output",
    type=OUTPUT,
    default=None,
    help="Folder for one picture per image: photo, heatmap, each phrase's map.",
)
@click.option(
    "--masks",
    type=OUTPUT,
    default=None,
    help="Folder for pseudo-masks: per image a PNG label map, contours, and JSON (RLE, boxes of "
    "regions of 0.1 % of the image and more, or of the largest).",
)
@click.option(
    "--top-k",
    type=click.IntRange(1),
    default=None,
    help="Explain the k most probable classes.  [default: 1]",
)
@click.option(
    "--class", "class_name", default=None, help="Explain this class instead: a name or an index."
)
@click.option("--against", default=None, help="With --class: rather than that one.")
@click.option(
    "--method",
    default=None,
    callback=known_method,
    help="The CAM method: cam, grad_cam, score_cam ...; default: the model's own. Methods of many "
    "passes, ss_cam above all, may need a server with a higher --max-passes.",
)
@click.option("--phrases", type=click.IntRange(1), default=None, help="Phrases per class at most.")
@click.option(
    "--min-probability",
    type=_Range("probability", min=0, max=1),
    default=None,
    help="Say no phrase that is less probable than this.  [default: the bank's]",
)
@click.option(
    "--kinds",
    multiple=True,
    callback=_kind_names,
    help="Say phrases of these kinds alone: thing, part, material, texture, colour, shape, scene, "
    "category; several with commas, or the option again.",
)
@click.option(
    "--repeat-class", is_flag=True, help="Say also what only repeats the name of the class."
)
@click.option(
    "--timeout",
    type=_Range("number of seconds", min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds per image.",
)
@click.option(
    "--wait",
    type=_Range("number of seconds", min=0),
    default=0.0,
    help="Wait so many seconds for the server.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per image and line.")
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
    phrases: int | None,
    min_probability: float | None,
    kinds: tuple[str, ...],
    repeat_class: bool,
    timeout: float,
    wait: float,
    as_json: bool,
) -> None:
    """Explain images with a running server.

    \b
      textcam explain cat.jpg --output explained/
      textcam explain cat.jpg --class "tiger cat" --against "red fox"
      textcam explain cat.jpg --min-probability 0.8 --kinds part,texture
      textcam explain cat-and-dog.jpg --top-k 2 --masks masks/
      textcam explain cat.jpg --server HOST:PORT --ca ca.crt --token-file token
    """
    target = _target(class_name, against, top_k)
    for folder in filter(None, (output, masks)):
        folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    taken: set[str] = set()
    with connect(timeout=timeout) as client:
        if wait:
            _wait(client, wait)
        answers = client.explain_many(
            images,
            target=target,
            model=model,
            version=version,
            max_phrases=phrases,
            min_probability=min_probability,
            kinds=kinds,
            repeat_class=repeat_class,
            method=method,
            on_error="return",
            concurrency=4,
        )
        for path, answer in zip(images, _reached(answers), strict=True):
            error = _show(path, answer, taken, output, masks, as_json)
            if error is not None:
                failed += 1
                click.echo(f"{click.format_filename(path)}: {error}", err=True)
    if failed:
        done = "explained and drawn" if output or masks else "explained"
        raise click.ClickException(f"{failed} of {len(images)} images were not {done}")


def _target(
    class_name: str | None, against: str | None, top_k: int | None
) -> str | int | TopK | Contrast:
    # Late, here and below, so that `textcam --help` stays quick.
    from textcam_client import Contrast, TopK  # noqa: PLC0415

    if against is not None and class_name is None:
        raise click.UsageError("--against goes with --class")
    if class_name is None:
        return TopK(top_k or 1)
    if top_k is not None:
        raise click.UsageError("--class and --top-k exclude each other")
    if against is not None:
        return Contrast(_class(class_name), _class(against))
    return _class(class_name)


def _class(given: str) -> str | int:
    # No index has ten digits: the contract's field could not hold it.
    return int(given) if given.isdecimal() and len(given) < 10 else given


def _wait(client: Client, seconds: float) -> None:
    from textcam_client import DeadlineExceeded  # noqa: PLC0415 - as above

    try:
        client.wait_ready(seconds)
    except DeadlineExceeded as error:
        server = click.get_current_context().params["server"]
        raise click.ClickException(
            f"no TextCAM server answered at {server} in {seconds:g} s: is it running, is the port "
            "right, does it want TLS?"
        ) from error


def _reached(
    answers: Iterable[ExplainResult | TextCamClientError],
) -> Iterator[ExplainResult | TextCamClientError]:
    """The answers; where none can be had, that is said once and not for each image.

    Raises:
        Unavailable: No server took the first image that was sent.
    """
    from textcam_client import ImageError, Unavailable  # noqa: PLC0415 - as above

    reached = False
    for answer in answers:
        # One with a reason is told by a server, or of a connection that stood: of this image.
        if isinstance(answer, Unavailable) and not answer.reason and not reached:
            raise answer
        reached = reached or not isinstance(answer, ImageError)
        yield answer


def _show(
    path: Path,
    answer: ExplainResult | TextCamClientError,
    taken: set[str],
    output: Path | None,
    masks: Path | None,
    as_json: bool,
) -> TextCamClientError | None:
    """Print an answer and draw what is wanted; or what is wrong with it, or with its image now."""
    from textcam_client import TextCamClientError  # noqa: PLC0415 - as above

    if isinstance(answer, TextCamClientError):
        return answer
    _print(path, answer, as_json)
    name = _free_name(path.stem, taken)
    try:
        if output:
            _draw(answer, output / f"{name}.png")
            _tell(output / f"{name}.png", as_json)
        if masks:
            _write_masks(path, answer, masks / name)
            _tell(masks / f"{name}.json", as_json)
    except TextCamClientError as error:
        # The image's file is gone, or has changed since it was sent.
        return error
    return None


def _print(path: Path, answer: ExplainResult, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"image": str(path), **answer.to_dict()}))
        return
    click.echo(click.format_filename(path))
    for prediction in answer.predictions:
        click.echo(f"  {prediction.probability:6.1%}  {prediction.class_name}")
    for explanation in answer.explanations:
        click.echo(f"  {explanation.sentence}")
        for line in _phrase_lines(explanation):
            click.echo(f"    {line}")


def _phrase_lines(explanation: Explanation) -> Iterator[str]:
    """A table of the phrases: how probable, what share, what effect, of which kind."""
    from textcam_client import wording  # noqa: PLC0415 - as above

    rows = [("true", "share", "effect", "phrase")] if explanation.phrases else []
    for phrase in explanation.phrases:
        share = wording.amount(explanation, phrase.evidence)
        effect = wording.effect(explanation, phrase)
        kind = f" ({phrase.kind})" if phrase.kind else ""
        rows.append((wording.chance(phrase) or "-", share, effect or "-", f"{phrase.text}{kind}"))
    for chance, share, effect, named in rows:
        yield f"{chance:>4}  {share:>6}  {effect:>6}  {named}"


def _tell(written: Path, as_json: bool) -> None:
    click.echo(f"  {click.format_filename(written)}", err=as_json)


def _draw(answer: ExplainResult, picture: Path) -> None:
    from textcam_client import draw_figure  # noqa: PLC0415 - only where pictures are wanted

    with _whole(picture) as part:
        draw_figure(answer).save(part, "PNG")


def _write_masks(image: Path, answer: ExplainResult, stem: Path) -> None:
    """Write STEM.png with the labels, STEM-contours.png and STEM.json."""
    from textcam_client import (  # noqa: PLC0415 - as above
        draw_contours,
        encode_rle,
        label_image,
        pseudo_labels,
    )

    labels = pseudo_labels(answer.explanations)
    contours = draw_contours(answer.picture(), labels, fill=0.2)
    for picture, place in ((label_image(labels), stem), (contours, f"{stem}-contours")):
        with _whole(Path(f"{place}.png")) as part:
            picture.save(part, "PNG")
    found = []
    for number, explanation in enumerate(answer.explanations, 1):
        mask = labels == number
        found.append(
            {
                "label": number,
                "class_index": explanation.target.class_index,
                "class_name": explanation.target.class_name,
                "probability": explanation.target.probability,
                "area": int(mask.sum()),
                "boxes": _boxes(mask),
                "rle": encode_rle(mask),
            }
        )
    with _whole(Path(f"{stem}.json")) as part:
        part.write_text(json.dumps({"image": str(image), "labels": found}) + "\n")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A place to write what is to be at `path`, which holds all of it or what it held before.

    Raises:
        OSError: It cannot be written, as on a full disk; names `path`.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def _boxes(mask: BoolArray) -> tuple[Box, ...]:
    from textcam_client import bounding_boxes  # noqa: PLC0415 - as above

    large = bounding_boxes(mask, min_area=math.ceil(_SMALLEST_BOX * mask.size))
    return large or bounding_boxes(mask, largest=True)


def _free_name(stem: str, taken: set[str]) -> str:
    """Two images of one name in different folders both keep their pictures."""
    name, number = stem, 1
    while not taken.isdisjoint((name, f"{name}-contours")):
        number += 1
        name = f"{stem}-{number}"
    taken |= {name, f"{name}-contours"}
    return name
