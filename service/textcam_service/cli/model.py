"""`textcam model`: publish models to a store, and choose the current version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from textcam_service.cli.shared.options import backbone_option, require_extra

_STORE = click.option(
    "--store", required=True, help="The store: a folder or fsspec URL, such as s3://bucket/models."
)
_ACCEPT_DRIFT = click.option(
    "--accept-drift",
    is_flag=True,
    help="Let servers take it even if its explanations differ from the served version's.",
)


@click.group(short_help="Publish models to a store.")
def model() -> None:
    """Publish models to a store that servers watch, and choose the current version.

    Backbone, bank and vocabulary are one version. A server that was started with `textcam serve
    --store STORE` loads each version that becomes current and warms it up. It compares its
    explanations with those of the served version, and switches to it between two requests.

    \b
      textcam model publish photos --store s3://bucket/models \\
          --backbone build/backbone --bank build/bank
      textcam model rollback photos --store s3://bucket/models
    """


@model.command("publish", short_help="Upload a backbone and its bank as a version.")
@click.argument("name")
@_STORE
@backbone_option
@click.option(
    "--bank",
    type=click.Path(path_type=Path),
    required=True,
    help="Bank folder, as written by `textcam bank build`.",
)
@click.option(
    "--version",
    default="",
    help="Name of the version.  [default: 12 digits of the digest of its files]",
)
@click.option(
    "--canary",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of images on which servers compare it with the version before.  [default: "
    "rendered scenes]",
)
@click.option(
    "--no-use",
    is_flag=True,
    help="Upload it without making it current; see `textcam model use`.",
)
@_ACCEPT_DRIFT
def model_publish(
    name: str,
    store: str,
    backbone: Path,
    bank: Path,
    version: str,
    canary: Path | None,
    no_use: bool,
    accept_drift: bool,
) -> None:
    """Verify a backbone and its bank, upload both as one version, and make it current."""
    published = _open(store).publish(
        name,
        backbone,
        bank,
        version,
        canary=canary,
        use=not no_use,
        accept_drift=accept_drift,
    )
    click.echo(f"published {name}@{published}" + ("" if no_use else ", which is current"))


@model.command("list", short_help="List versions.")
@click.argument("name", required=False)
@_STORE
def model_list(name: str | None, store: str) -> None:
    """List the versions of a model, or of all; '*' marks the current one."""
    opened = _open(store)
    versions = opened.list(name)
    if not versions:
        raise opened.not_found(name)
    for found in versions:
        click.echo(f"{'*' if found.current else ' '} {found.name}@{found.version}")


@model.command("use")
@click.argument("name")
@click.argument("version")
@_STORE
@_ACCEPT_DRIFT
def model_use(name: str, version: str, store: str, accept_drift: bool) -> None:
    """Make a published version current."""
    _open(store).use(name, version, accept_drift=accept_drift)
    click.echo(f"{name}@{version} is current")


@model.command("rollback", short_help="Make the previous version current again.")
@click.argument("name")
@_STORE
def model_rollback(name: str, store: str) -> None:
    """Make the previous version current again; servers take it without comparing.

    Versions that no server took are skipped, if servers may write to the store to record them.
    """
    click.echo(f"{name}@{_open(store).roll_back(name)} is current")


@model.command("prune")
@click.argument("name")
@_STORE
@click.option(
    "--keep",
    type=click.IntRange(0),
    required=True,
    help="Number of the newest versions that stay. The current version, and the one to roll back "
    "to, always stay.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print the versions that would be removed; remove none."
)
def model_prune(name: str, store: str, keep: int, dry_run: bool) -> None:
    """Remove old versions of a model from the store.

    A server that serves one of them goes on, but it cannot be loaded or rolled back to. Do not
    run this while a version is being published under the name.
    """
    opened = _open(store)
    versions = opened.prunable(name, keep)
    for version in versions:
        if not dry_run:
            opened.remove(name, version)
        click.echo(f"{'would remove' if dry_run else 'removed'} {name}@{version}")
    if not versions:
        click.echo(f"nothing to remove: {name} has no other versions than those that stay")


def _open(store: str) -> Any:
    require_extra("service")
    from textcam_service.store.models import ModelStore  # noqa: PLC0415 - fsspec, onnxruntime

    return ModelStore(store)
