"""`textcam token`: secrets for callers."""

from __future__ import annotations

import json
import secrets
from hashlib import sha256
from typing import Any

import click

from textcam_service.cli.common import need
from textcam_service.errors import InvalidSettings


@click.group()
def token() -> None:
    """Tokens by which callers show who they are."""


@token.command()
@click.argument("name")
@click.option("--method", "methods", multiple=True, help="A method it may call; default: all.")
@click.option("--model", "models", multiple=True, help="A model it may use; default: all.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    help="Images and other calls a second, to one process; 0: any number; default: the server's.",
)
@click.option(
    "--burst", type=click.IntRange(1), help="How many of these at once; default: the server's."
)
def create(name: str, **rights: Any) -> None:
    """Draw a token for the caller NAME and print it, once; then its entry in the callers' file.

    The file (setting `callers`) is {"callers": [ENTRY, ...]}. It holds the token's hash, so the
    token itself is nowhere but where you put it. The server reads a changed file by itself.
    """
    need("service")
    from pydantic import ValidationError  # noqa: PLC0415 - of the extra

    # All of the extra.
    from textcam_service.serving.auth.authentication import CallerEntry  # noqa: PLC0415
    from textcam_service.serving.grpc.contract import GRANTABLE_METHODS  # noqa: PLC0415
    from textcam_service.settings import faults_of  # noqa: PLC0415

    # The prefix lets scanners of repositories find one that was committed.
    drawn = f"textcam_{secrets.token_urlsafe(32)}"
    given = {key: value for key, value in rights.items() if value not in (None, ())}
    entry = {"name": name, "sha256": sha256(drawn.encode()).hexdigest(), **given}
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
