"""Connection of commands to a server: address, TLS and the caller's token."""

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
    click.option(
        "--server",
        default="127.0.0.1:50051",
        show_default=True,
        help="Address of the server, HOST:PORT.",
    ),
    click.option("--tls", is_flag=True, help="Use TLS; trust the public certificate authorities."),
    click.option("--ca", type=_FILE, help="Use TLS; trust only the authorities in this PEM file."),
    click.option(
        "--certificate", type=_FILE, help="Client certificate chain for mutual TLS, a PEM file."
    ),
    click.option("--key", type=_FILE, help="Private key of --certificate, a PEM file."),
    click.option(
        "--token-file",
        type=_FILE,
        help=f"File with the caller's token.  [default: the environment variable {TOKEN}]",
    ),
)


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the connection options; the command gets `connect`, which makes a Client."""

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
    # Imported here, so that `textcam --help` stays quick.
    from textcam_client import Client  # noqa: PLC0415

    metadata = {"authorization": f"Bearer {token}"} if token else None
    try:
        return Client(server, tls=tls, metadata=metadata, **settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _tls(tls: bool, ca: Path | None, certificate: Path | None, key: Path | None) -> Tls | None:
    """Read the TLS options, and try the files: gRPC accepts broken ones until a handshake."""
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
                f"{certificate} and {key} are not a PEM certificate and its private key without a "
                f"passphrase ({error})",
                param_hint="--certificate, --key",
            ) from error
    return Tls(ca, key, certificate)


def _token(file: Path | None) -> str:
    """Read the token; empty: none. Errors do not quote it."""
    source = str(file or f"the variable {TOKEN}")
    token = (file.read_text(errors="replace") if file else os.environ.get(TOKEN, "")).strip()
    if (file and not token) or not (token.isascii() and token.isprintable()) or " " in token:
        raise click.UsageError(f"{source} holds no token: one word of ASCII, nothing else")
    return token
