"""`textcam serve`: run the server; its flags are the settings."""

from __future__ import annotations

import difflib
import importlib.util
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from textcam_service.cli.shared.options import require_extra

_log = logging.getLogger(__name__)
_PREFIX = "TEXTCAM_"
# Variables with the prefix that are not settings: the settings file, and a client's token.
_NO_SETTINGS = ("CONFIG", "TOKEN")


class _ServeCommand(click.Command):
    """Command with a flag per setting, if the extra `service` is installed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """List the flags; those of settings come last."""
        return [*super().get_params(ctx), *_setting_flags()]


def _setting_flags() -> list[click.Parameter]:
    if importlib.util.find_spec("pydantic_settings") is None:
        return []
    from textcam_service.settings import ServerSettings  # noqa: PLC0415 - extra 'service'

    flags: list[click.Parameter] = []
    for name, field in ServerSettings.model_fields.items():
        many = field.default == ()
        unset = field.default in ("", (), None)
        shown = "" if unset else f" [default: {_shown(name, field.default)}]"
        flags.append(
            click.Option(
                [f"--{name.replace('_', '-')}"],
                multiple=many,
                default=None,
                help=f"{field.description}{shown}",
                metavar=name.split("_")[-1].upper(),
            )
        )
    return flags


def _unknown_variables(names: Iterable[str]) -> dict[str, str]:
    """Find variables that look like settings but are not, each with a similar setting or ""."""
    from textcam_service.settings import ServerSettings  # noqa: PLC0415 - extra 'service'

    known = [_PREFIX + name.upper() for name in (*ServerSettings.model_fields, *_NO_SETTINGS)]
    return {
        name: next(iter(difflib.get_close_matches(name.upper(), known, 1, 0.8)), "")
        for name in names
        if name.upper().startswith(_PREFIX) and name.upper() not in known
    }


def _shown(name: str, default: object) -> object:
    return "the packaged bank" if name == "bank" else default


@click.command(cls=_ServeCommand, short_help="Serve a model, or a store of models, over gRPC.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=None,
    help="TOML file of settings, named as the flags below with '_' for '-'.",
)
def serve(config: Path | None, **flags: Any) -> None:
    """Serve a backbone with its concept bank, or a store of models, over gRPC.

    Every flag can also be set by an environment variable TEXTCAM_<NAME>, for instance
    TEXTCAM_MAX_BATCH=16, or TEXTCAM_PROVIDERS=A,B for a flag that may be given more than
    once; or in the file of --config. Flags win over the environment, and the environment
    over the file.
    """
    require_extra("service")
    import asyncio  # noqa: PLC0415

    from textcam_service.serving.telemetry.logs import set_up_logs  # noqa: PLC0415
    from textcam_service.settings import read_settings  # noqa: PLC0415

    given = {key: value for key, value in flags.items() if value not in (None, ())}
    settings = read_settings(given, config)
    set_up_logs(settings)
    for name, near in _unknown_variables(os.environ).items():
        hint = f"; near it: {near}" if near else ""
        _log.warning("the variable %s is not a setting and is ignored%s", name, hint)

    def announce(port: int, metrics_port: int | None, health_port: int | None) -> None:
        metrics = "" if metrics_port is None else f", metrics on {metrics_port}"
        health = "" if health_port is None else f", health on {health_port}"
        served = f"the models of {settings.store}" if settings.store else f"'{settings.name}'"
        click.echo(f"serving {served} on {settings.address(port)}{metrics}{health}")

    if settings.workers > 1:
        from textcam_service.serving.workers import serve_workers  # noqa: PLC0415 - without grpc

        serve_workers(settings, announce)
        return
    from textcam_service.serving.process import serve as serve_until_stopped  # noqa: PLC0415

    asyncio.run(
        serve_until_stopped(
            settings,
            lambda server: announce(server.port, server.metrics_port, server.health_port),
        )
    )
