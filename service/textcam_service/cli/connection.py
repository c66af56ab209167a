"""How commands reach a server: address, TLS, and who calls."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from textcam_client import Client, Tls

TOKEN = "TEXTCAM_TOKEN"  # noqa: S105 - the variable's name
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--server", default="127.0.0.1:50051", show_default=True, help="HOST:PORT."),
    click.option("--tls", is_flag=True, help="Speak TLS, trusting the public authorities."),
    click.option("--ca", type=_FILE, help="Speak TLS, trusting who this PEM file names alone."),
    click.option("--certificate", type=_FILE, help="For mutual TLS: your PEM certificate chain."),
    click.option("--key", type=_FILE, help="For mutual TLS: its PEM private key."),
    click.option(
        "--token-file",
        type=_FILE,
        help=f"File of the token that says who calls; default: the variable {TOKEN}, if set.",
    ),
)


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options above; in their place it gets `connect`, which makes a Client."""

    @wraps(command)
    def connecting(
        *,
        server: str,
        tls: bool,
        ca: Path | None,
        certificate: Path | None,
        key: Path | None,
        token_file: Path | None,
        **given: Any,
    ) -> None:
        how = _tls(tls, ca, certificate, key)
        command(connect=partial(_client, server, how, _token(token_file)), **given)

    for option in reversed(_OPTIONS):
        connecting = option(connecting)
    return connecting


def _client(server: str, tls: Tls | None, token: str, **settings: Any) -> Client:
    # Late, so that `textcam --help` stays quick.
    from textcam_client import Client  # noqa: PLC0415

    metadata = {"authorization": f"Bearer {token}"} if token else None
    try:
        return Client(server, tls=tls, metadata=metadata, **settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _tls(tls: bool, ca: Path | None, certificate: Path | None, key: Path | None) -> Tls | None:
    """What the files say, tried first: gRPC takes broken ones, and then no handshake succeeds."""
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key go together")
    if not (tls or ca or certificate):
        return None
    from textcam_client import Tls  # noqa: PLC0415 - as above

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except (ssl.SSLError, OSError) as error:
            raise click.BadParameter(
                f"{ca} holds no PEM certificate ({error})", param_hint="--ca"
            ) from error
    if certificate is not None and key is not None:
        try:
            context.load_cert_chain(certificate, key, password="")  # without one it would ask
        except (ssl.SSLError, OSError) as error:
            raise click.BadParameter(
                f"{certificate} and {key} are no PEM certificate and its private key without a "
                f"passphrase ({error})",
                param_hint="--certificate, --key",
            ) from error
    return Tls(ca, key, certificate)


def _token(file: Path | None) -> str:
    """The token; empty: none. Errors tell nothing of it."""
    source = str(file or f"the variable {TOKEN}")
    token = (file.read_text(errors="replace") if file else os.environ.get(TOKEN, "")).strip()
    if (file and not token) or not (token.isascii() and token.isprintable()) or " " in token:
        raise click.UsageError(f"{source} holds no token: one word of ASCII, nothing else")
    return token
