"""`textcam token`: tokens that identify callers."""

from __future__ import annotations

import json
import secrets
from hashlib import sha256
from typing import Any

import click

from textcam_service.cli.shared.options import require_extra
from textcam_service.errors import InvalidSettings


@click.group()
def token() -> None:
    """Create tokens that identify callers."""


@token.command(short_help="Create a token for a caller.")
@click.argument("name")
@click.option(
    "--method",
    "methods",
    multiple=True,
    help="An RPC that the caller may call. May be given more than once.  [default: all]",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A model that the caller may use. May be given more than once.  [default: all]",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    help="Images and other calls per second to one process; 0: no limit.  [default: the server's]",
)
@click.option(
    "--burst",
    type=click.IntRange(1),
    help="Number of images and other calls at once.  [default: the server's]",
)
def create(name: str, **rights: Any) -> None:
    """Create and print a token for the caller NAME, and its entry in the callers' file.

    The file (setting `callers`) is {"callers": [ENTRY, ...]}. It holds the token's hash, so only
    you have the token. The server reads the file again when it changes.
    """
    require_extra("service")
    from pydantic import ValidationError  # noqa: PLC0415 - of the extra

    # All of the extra.
    from textcam_service.serving.auth.authentication import CallerEntry  # noqa: PLC0415
    from textcam_service.serving.grpc.contract import GRANTABLE_METHODS  # noqa: PLC0415
    from textcam_service.settings import faults_of  # noqa: PLC0415

    # Scanners of repositories find committed tokens by the prefix.
    drawn = f"textcam_{secrets.token_urlsafe(32)}"
    chosen = {key: value for key, value in rights.items() if value not in (None, ())}
    entry = {"name": name, "sha256": sha256(drawn.encode()).hexdigest(), **chosen}
    try:
        CallerEntry.model_validate(entry).check_methods(GRANTABLE_METHODS)
    except ValidationError as error:
        raise InvalidSettings(faults_of(error)) from error
    except ValueError as error:
        raise InvalidSettings(str(error)) from error
    click.echo("The token, to be sent as the metadata 'authorization: Bearer TOKEN':", err=True)
    click.echo(drawn)
    click.echo("Its entry in the callers' file:", err=True)
    click.echo(json.dumps(entry))
