"""`textcam audit`: audit a served model on a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from textcam_service.cli.shared.connection import server_options
from textcam_service.cli.shared.options import OUTPUT, require_extra
from textcam_service.cli.shared.parameters import NumberRange, known_method

if TYPE_CHECKING:
    from textcam_client import Client
    from textcam_client.audit import AuditResult

_SHOWN = 10
_LIMITS_BROKEN = 3
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_AUDITED = click.Path(exists=True, file_okay=False, path_type=Path)


def _names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Split names at commas; None: the option was not given."""
    if value is None:
        return None
    return tuple(name for name in (part.strip() for part in value.split(",")) if name)


@click.command(short_help="Audit a served model on a data set.")
@click.argument("data")
@server_options
@click.option(
    "--out",
    "--output",
    "output",
    type=OUTPUT,
    required=True,
    help="Folder for the report and all other files. The same command resumes an audit that ended "
    "early; a finished one is only evaluated again.",
)
@click.option("--model", default=None, help="Name of the model; needed if the server has several.")
@click.option(
    "--version",
    default=None,
    help="Version of the model; it is kept to the end of the audit.  [default: the current one]",
)
@click.option(
    "--method", default="", callback=known_method, help="CAM method.  [default: the model's]"
)
@click.option(
    "--labels",
    "label_column",
    default="label",
    show_default=True,
    help="Column of a list, or field of a tar's JSON, with the label: the name of a class, or its "
    "index.",
)
@click.option(
    "--paths",
    "path_column",
    default="path",
    show_default=True,
    help="Column of a list with the image's path, relative to the list, or its URL.",
)
@click.option(
    "--slices",
    default=None,
    callback=_names,
    help="Columns to compare by, separated by commas; '' for none.  [default: all other columns]",
)
@click.option("--flat", is_flag=True, help="Folders are no labels: the images are unlabelled.")
@click.option(
    "--masks",
    default=None,
    help="Folder or URL with masks of the objects, each at its image's path as .png; the object is "
    "where a mask is not 0. A list may have a column `mask` instead.",
)
@click.option(
    "--max-phrases",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Most phrases of an answer. The concepts of an audit are the phrases that were said.",
)
@click.option(
    "--floor",
    type=NumberRange("share", min=0, max=1, max_open=True),
    default=0.001,
    show_default=True,
    help="Leave out of a record the channels with less than this part of all absolute evidence.",
)
@click.option(
    "--may-degrade",
    is_flag=True,
    help="Accept smaller answers from a server under pressure. Such records are marked and enter "
    "no statistic.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="The most images in flight.",
)
@click.option(
    "--patience",
    type=NumberRange("number of seconds", min=0),
    default=900.0,
    show_default=True,
    help="Seconds that the server may be away before the audit stops.",
)
@click.option(
    "--timeout",
    type=NumberRange("number of seconds", min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Time limit per image, in seconds.",
)
@click.option(
    "--fail-on",
    type=_FILE,
    default=None,
    help="TOML file with allowed and banned concepts and other limits; exit status 3 if the audit "
    "breaks one.",
)
@click.option(
    "--against",
    type=_AUDITED,
    default=None,
    help="Folder of a finished audit of the same data, to compare with image by image.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the permutations and resamples.",
)
@click.option("--no-report", is_flag=True, help="Write no report.html.")
@click.option("--quiet", is_flag=True, help="Show no progress bar.")
def audit(  # noqa: PLR0913, PLR0917 - one argument per option
    data: str,
    connect: Callable[..., Client],
    output: Path,
    model: str | None,
    version: str | None,
    method: str,
    label_column: str,
    path_column: str,
    slices: tuple[str, ...] | None,
    flat: bool,
    masks: str | None,
    max_phrases: int,
    floor: float,
    may_degrade: bool,
    concurrency: int,
    patience: float,
    timeout: float,
    fail_on: Path | None,
    against: Path | None,
    seed: int,
    no_report: bool,
    quiet: bool,
) -> None:
    """Audit a served model on a data set: which concepts carry each class, which are spurious.

    DATA is a folder of images, one folder per class; a list, CSV or Parquet, with the columns
    path, label and any others to compare by; or WebDataset tars. It may be a URL, such as
    s3://BUCKET/FOLDER.

    \b
      textcam audit photos/ --out report/ --server HOST:PORT
      textcam audit photos.csv --labels species --slices light,site --out report/
      textcam audit shards/ --masks masks/ --out report/
      textcam audit photos/ --out after/ --against before/
      textcam audit photos/ --out report/ --fail-on banned.toml

    \b
    Exit status:
      0  the audit is done
      1  a fault; the same command goes on where it was
      3  done, but a limit of --fail-on is broken
    """
    require_extra("audit")
    from textcam_client.audit import (  # noqa: PLC0415 - pyarrow, scipy
        AuditSettings,
        Bar,
        DataOptions,
        Evaluation,
        FindingSettings,
        read_policy,
    )
    from textcam_client.audit import audit as run  # noqa: PLC0415 - as above

    try:
        policy = read_policy(fail_on) if fail_on else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--fail-on") from error
    with connect(timeout=timeout) as client:
        result = run(
            client,
            data,
            output,
            options=DataOptions(label_column, path_column, "mask", slices, flat, masks),
            settings=AuditSettings(
                model=model,
                version=version,
                method=method or None,
                max_phrases=max_phrases,
                floor=floor,
                may_degrade=may_degrade,
                concurrency=concurrency,
                patience_s=patience,
                timeout_s=timeout,
            ),
            evaluation=Evaluation(policy, against, FindingSettings(seed=seed), not no_report),
            progress=None if quiet else Bar(),
        )
    _print(result)
    if result.broken:
        for sentence in result.broken:
            click.echo(sentence, err=True)
        click.get_current_context().exit(_LIMITS_BROKEN)


def _print(result: AuditResult) -> None:
    summary = result.summary
    counts = summary.counts
    click.echo(
        f"{counts['answered']} of {counts['rows']} images answered by {summary.model}, "
        f"{counts['failed']} failed"
    )
    if summary.accuracy is not None:
        own, images = summary.accuracy, counts["images_with_label"]
        ends = "" if own.low is None else f" ({own.low:.3f} to {own.high:.3f})"
        click.echo(f"accuracy {own.value:.3f}{ends} of {images} labelled images")
    for label, rows in summary.unknown_labels.items():
        counted = f"{rows} row{'s' if rows > 1 else ''}"
        click.echo(f"label {label!r} of {counted} is no class of the model", err=True)
    for note in summary.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"{len(summary.findings)} findings")
    for finding in summary.findings[:_SHOWN]:
        click.echo(f"  {finding.statement}")
    if len(summary.findings) > _SHOWN:
        click.echo(f"  and {len(summary.findings) - _SHOWN} more in findings.json")
    for path in sorted(one for one in result.folder.iterdir() if one.is_file()):
        click.echo(str(path))
