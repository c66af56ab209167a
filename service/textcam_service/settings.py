"""Every setting of the server, in one place, read once and passed down.

Sources, the first that speaks wins: flags of `textcam serve`, environment variables
TEXTCAM_<NAME>, the TOML file that --config (or TEXTCAM_CONFIG) names, the defaults here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from textcam_service.artefacts.packaged import PHOTOS
from textcam_service.errors import InvalidSettings

MIB = 2**20
# What gRPC takes: its options are 32-bit numbers, its times milliseconds.
_MOST_INT32 = 2**31 - 1
_LONGEST_AGE_S = _MOST_INT32 // 1000


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


LogLevel: TypeAlias = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
]


def _names(given: object) -> object:
    """A variable holds one string: names parted by commas, or a JSON list of them."""
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith("["):
        try:
            return json.loads(given)
        except ValueError as error:
            raise ValueError(f"give A,B or a JSON list of strings ({error})") from error
    return [name.strip() for name in given.split(",") if name.strip()]


Names: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


def _bare(value: Any) -> Any:
    """An IPv6 address without the brackets that it has in a URL."""
    enclosed = isinstance(value, str) and value.startswith("[") and value.endswith("]")
    return value[1:-1] if enclosed else value


class ServerSettings(BaseSettings):
    """What `textcam serve` obeys."""

    model_config = SettingsConfigDict(env_prefix="TEXTCAM_", frozen=True, extra="forbid")

    name: str = Field("photos", description="Name of the served model.")
    version: str = Field(
        "",
        description="Version of the served model; empty: first 12 digits of the digest of "
        "backbone, bank and vocabulary.",
    )
    backbone: Path = Field(
        Path("build/backbone"), description="Backbone folder that `textcam export` wrote."
    )
    bank: Path = Field(
        PHOTOS,
        description="Bank folder; default: the bank and vocabulary that come with the package.",
    )
    store: str = Field(
        "",
        description="Store of models, a folder or fsspec URL (s3://bucket/models), that is watched "
        "for new versions; empty: the one model of `backbone` and `bank`.",
    )
    store_models: Names = Field(
        (),
        description="Names to serve of the store, ready once all are; empty: what is there.",
    )
    store_poll_s: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="Seconds between two looks at the store."
    )
    store_cache: str = Field(
        "",
        description="Folder for copies of a remote store's models, which outlives restarts; empty: "
        "a temporary one.",
    )
    store_keep: int = Field(
        0, ge=0, description="Earlier versions of each model that stay, for calls that name them."
    )
    canary_min_map_correlation: float = Field(
        -1.0,
        ge=-1,
        le=1,
        description="Refuse a version whose maps correlate less with the served one's; -1: never.",
    )
    canary_min_first_phrase: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Refuse one whose first phrase is the same on a smaller part of the images.",
    )
    canary_min_top1: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Refuse one whose most probable class is the same on a smaller part of them.",
    )
    canary_max_share_difference: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Refuse one whose phrases' shares of the evidence differ by more; 1: never.",
    )
    host: Annotated[str, BeforeValidator(_bare)] = Field(
        "127.0.0.1", description="Address to listen on; 0.0.0.0 for all, :: for all of IPv6 too."
    )
    port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0: any free one.")
    metrics_port: int = Field(
        9464, ge=-1, le=65535, description="HTTP port of /metrics; 0: any free one; -1: none."
    )
    health_port: int = Field(
        -1,
        ge=-1,
        le=65535,
        description="Port of gRPC's health service alone, plaintext, for probes that have no "
        "certificate; 0: any free one; -1: none.",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file of the server's certificate chain; none: plaintext."
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key.")
    tls_client_ca: Path | None = Field(
        None,
        description="PEM file of who signs callers' certificates, which are then required.",
    )
    callers: Path | None = Field(
        None,
        description="JSON file of who may call: hashed tokens or certificates' names, with rights "
        "and rates; none: anyone.",
    )
    jwt_keys: Path | None = Field(
        None, description="JWKS file of the keys that sign callers' JWTs; none: no JWTs."
    )
    jwt_issuer: str = Field("", description="The `iss` that a JWT must have.")
    jwt_audience: str = Field("", description="The `aud` that a JWT must have.")
    rate: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Images and other calls a second that each caller may send to one process, "
        "unless `callers` says otherwise; 0: any number. By several connections a caller reaches "
        "all `workers`, and gets up to so many times the rate.",
    )
    burst: int = Field(
        32, ge=1, description="How many of these at once, after a pause; where `rate` is not 0."
    )
    providers: Names = Field(
        (),
        description="Execution providers by preference: tensorrt, cuda, cpu, or onnxruntime's "
        "names; empty: CUDA if usable, else CPU.",
    )
    precision: Literal["fp32", "tf32", "fp16"] = Field(
        "fp32",
        description="What a GPU computes in: fp32; tf32, rounded products, by CUDA; fp16, by "
        "TensorRT; `textcam parity` compares explanations.",
    )
    engine_cache: str = Field(
        "",
        description="Folder in which TensorRT keeps its engines, minutes in the making; who writes "
        "there decides what the GPU runs; empty: they are made at each start.",
    )
    gpu_memory_limit: int = Field(
        0,
        ge=0,
        description="Bytes of a GPU that each graph takes at most, by CUDA; 0: any number.",
    )
    session_threads: int = Field(
        0, ge=0, description="Threads of the onnxruntime session; 0: as affinity and quota allow."
    )
    decode_threads: int = Field(
        0, ge=0, description="Threads that decode and explain; 0: as affinity and quota allow."
    )
    max_batch: int = Field(8, ge=1, description="Images per inference at most.")
    max_delay_ms: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="Wait for images that are being decoded at most so long, milliseconds.",
    )
    max_queue: int = Field(
        64, ge=1, description="Images that may wait, of each lane; more are refused."
    )
    max_wait_ms: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Interactive requests that would not be answered within so many milliseconds "
        "are refused, whatever their deadline; 0: none is.",
    )
    audit_share: float = Field(
        0.2, ge=0, le=1, description="Part of each batch that waiting audit requests get."
    )
    max_concurrent: int = Field(
        256,
        ge=1,
        description="Requests in work at most, decoding included; more are refused, and so is a "
        "batch of more images.",
    )
    max_bytes_in_work: int = Field(
        512 * MIB,
        ge=1024,
        description="Bytes at most of the requests in work, and of streams' answers that nobody "
        "took yet; more requests are refused.",
    )
    max_long_requests: int = Field(
        16, ge=1, description="Requests at most whose CAM method takes passes beyond the first."
    )
    stream_concurrency: int = Field(
        16, ge=1, description="Items of one ExplainStream in work at most; the rest wait unread."
    )
    max_image_bytes: int = Field(20 * MIB, ge=1, description="Bytes of an encoded image at most.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Pixels of an image at most.")
    reduced_decode: bool = Field(
        True,
        description="Decode large JPEG files at a half or a quarter of their size where three "
        "pixels are left for each that the model takes: logits move by up to 0.3 of their "
        "standard deviation.",
    )
    max_message_bytes: int = Field(
        64 * MIB,
        ge=1024,
        le=_MOST_INT32,
        description="Bytes of a gRPC message at most, either way.",
    )
    max_targets: int = Field(10, ge=1, description="Explained classes per request at most.")
    max_phrases: int = Field(20, ge=1, description="Phrases per target at most.")
    default_phrases: int = Field(5, ge=1, description="Phrases where the request names no number.")
    direction: Literal["supports", "lda"] = Field(
        "supports",
        description="How evidence becomes phrases: supports, with calibrated probabilities, where "
        "the bank has them; lda, the paper's channel embeddings and sparse choice.",
    )
    min_probability: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Phrases that are less probable are not said, where a request names no "
        "threshold; none: the bank's.",
    )
    max_passes: int = Field(
        4096,
        ge=0,
        description="Further passes of network and head that one request's CAM method may take.",
    )
    workers: int = Field(
        1,
        ge=1,
        description="Server processes on the one port; more than 1 is for CPUs: each loads the "
        "model, takes its part of the threads, and counts callers' rates for itself.",
    )
    max_connection_age_s: float = Field(
        0.0,
        ge=0,
        le=_LONGEST_AGE_S,
        description="Connections end at that age, so that balanced clients find new replicas; "
        "0: never.",
    )
    drain_seconds: float = Field(
        20.0,
        ge=0,
        allow_inf_nan=False,
        description="After SIGTERM, finish work and deliver it for at most so long.",
    )
    log_level: LogLevel = Field("INFO", description="DEBUG, INFO, WARNING, ERROR or CRITICAL.")
    log_format: Literal["text", "json"] = Field(
        "text",
        description="text, or json: an object per line, and at INFO one for each answered request.",
    )
    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^/\s]+/?)?$",
        description="Where traces go, OTLP over gRPC, such as http://collector:4317; empty: none. "
        "Needs the extra 'tracing'.",
    )
    trace_sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Part of the requests to trace where the caller's trace does not say.",
    )

    def address(self, port: int) -> str:
        """HOST:PORT, as gRPC and URLs have it: an IPv6 address in brackets."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: flags, environment, file."""
        config = os.environ.get("TEXTCAM_CONFIG")
        file = (TomlConfigSettingsSource(settings_cls, Path(config)),) if config else ()
        return (init_settings, env_settings, *file)


def read_settings(flags: Mapping[str, Any], config: Path | None = None) -> ServerSettings:
    """Read the settings once.

    Args:
        flags: Given on the command line; they rule.
        config: A TOML file; None: the one that TEXTCAM_CONFIG names, if any.

    Raises:
        InvalidSettings: A setting is unknown or out of range, or the file is unreadable.
    """
    if config is not None:
        os.environ["TEXTCAM_CONFIG"] = str(config)
    named = os.environ.get("TEXTCAM_CONFIG")
    if named and not Path(named).is_file():
        fault = "is a folder" if Path(named).is_dir() else "is not there"
        raise InvalidSettings(f"the settings file {named} {fault}")
    try:
        settings = ServerSettings(**flags)
    except ValidationError as error:
        if strangers := _strangers(error):
            raise InvalidSettings(f"in the settings file {named}, {strangers}") from error
        raise InvalidSettings(f"settings are not valid: {faults_of(error)}") from error
    except SettingsError as error:  # a variable's
        raise InvalidSettings(f"settings cannot be read: {error}") from error
    except ValueError as error:
        raise InvalidSettings(f"the settings file {named} is no TOML in UTF-8: {error}") from error
    if settings.default_phrases > settings.max_phrases:
        raise InvalidSettings("default_phrases is above max_phrases")
    if settings.max_message_bytes > settings.max_bytes_in_work:
        raise InvalidSettings("max_message_bytes is above max_bytes_in_work")
    _require_probabilities(settings)
    _require_together(settings, "tls_certificate", "tls_key")
    _require_together(settings, "jwt_keys", "jwt_issuer", "jwt_audience")
    if settings.tls_client_ca and not settings.tls_certificate:
        raise InvalidSettings("tls_client_ca needs tls_certificate and tls_key")
    return settings


def _strangers(error: ValidationError) -> str:
    """Names that are no settings, which only a file can give; each with the nearest that is."""
    names = [str(fault["loc"][0]) for fault in error.errors() if fault["type"] == "extra_forbidden"]
    near = {name: get_close_matches(name, ServerSettings.model_fields, 1, 0.8) for name in names}
    return "; ".join(
        f"{name} is no setting" + (f", near it: {near[name][0]}" if near[name] else "")
        for name in names
    )


def faults_of(error: ValidationError) -> str:
    """What pydantic found, by field; none of the values."""
    return "; ".join(
        ": ".join(filter(None, (".".join(str(part) for part in fault["loc"]), fault["msg"])))
        for fault in error.errors(include_input=False)
    )


def _require_probabilities(settings: ServerSettings) -> None:
    if settings.direction == "lda" and settings.min_probability:
        raise InvalidSettings(
            "min_probability goes by the supports' probabilities, which direction lda has not"
        )


def _require_together(settings: ServerSettings, *names: str) -> None:
    given = [name for name in names if getattr(settings, name)]
    if given and len(given) < len(names):
        raise InvalidSettings(f"{', '.join(names)} go together; only {', '.join(given)} is set")
