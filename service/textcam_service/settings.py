"""All settings of the server, read once and passed down.

Sources by precedence: flags of `textcam serve`, environment variables TEXTCAM_<NAME>, the TOML file
named by --config or TEXTCAM_CONFIG, the defaults here.
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
# Limits of gRPC: its options are 32-bit numbers, its times milliseconds.
_MOST_INT32 = 2**31 - 1
_LONGEST_AGE_S = _MOST_INT32 // 1000


def _to_upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


LogLevel: TypeAlias = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_to_upper)
]


def _names(given: object) -> object:
    """Split an environment variable's string: comma-separated names, or a JSON list of them."""
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith("["):
        try:
            return json.loads(given)
        except ValueError as error:
            raise ValueError(f"give A,B or a JSON list of strings ({error})") from error
    return [name.strip() for name in given.split(",") if name.strip()]


Names: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


def _without_brackets(value: Any) -> Any:
    """Remove the brackets that an IPv6 address has in a URL."""
    enclosed = isinstance(value, str) and value.startswith("[") and value.endswith("]")
    return value[1:-1] if enclosed else value


class ServerSettings(BaseSettings):
    """Settings of `textcam serve`."""

    model_config = SettingsConfigDict(env_prefix="TEXTCAM_", frozen=True, extra="forbid")

    name: str = Field("photos", description="Name of the served model.")
    version: str = Field(
        "",
        description="Version of the served model; empty for the first 12 digits of the digest "
        "of backbone, bank and vocabulary.",
    )
    backbone: Path = Field(
        Path("build/backbone"), description="Backbone folder written by `textcam export`."
    )
    bank: Path = Field(
        PHOTOS,
        description="Folder of the concept bank; by default the bank and vocabulary of the "
        "package.",
    )
    store: str = Field(
        "",
        description="Store of models, a folder or fsspec URL (s3://bucket/models), that is "
        "watched for new versions; empty to serve only the model of `backbone` and "
        "`bank`.",
    )
    store_models: Names = Field(
        (),
        description="Names of the store's models to serve; the server is ready once all of them"
        " are. Empty for all models.",
    )
    store_poll_s: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="Seconds between two checks of the store."
    )
    store_cache: str = Field(
        "",
        description="Folder for copies of a remote store's models, which persists over "
        "restarts; empty for a temporary folder.",
    )
    store_keep: int = Field(
        0,
        ge=0,
        description="Number of earlier versions of each model that stay loaded, for requests "
        "that name them.",
    )
    canary_min_map_correlation: float = Field(
        -1.0,
        ge=-1,
        le=1,
        description="Reject a new version if its maps' correlation with the served version's is"
        " lower; -1 for no check.",
    )
    canary_min_first_phrase: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Reject a new version if the part of images with the same first phrase is "
        "smaller.",
    )
    canary_min_top1: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Reject a new version if the part of images with the same most probable "
        "class is smaller.",
    )
    canary_max_share_difference: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Reject a new version if its phrases' shares of the evidence differ by "
        "more; 1 for no check.",
    )
    host: Annotated[str, BeforeValidator(_without_brackets)] = Field(
        "127.0.0.1",
        description="Address to listen on; 0.0.0.0 for all of IPv4, :: for all of IPv4 and IPv6.",
    )
    port: int = Field(50051, ge=0, le=65535, description="Port of gRPC; 0 for any free port.")
    metrics_port: int = Field(
        9464,
        ge=-1,
        le=65535,
        description="HTTP port of /metrics; 0 for any free port, -1 to disable it.",
    )
    health_port: int = Field(
        -1,
        ge=-1,
        le=65535,
        description="Port with only gRPC's health service, in plaintext, for probes without a "
        "client certificate; 0 for any free port, -1 to disable it.",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file of the server's certificate chain; unset for plaintext."
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key.")
    tls_client_ca: Path | None = Field(
        None,
        description="PEM file of the CA that signs client certificates, which are then required.",
    )
    callers: Path | None = Field(
        None,
        description="JSON file of the callers: hashed tokens or certificate names, with rights "
        "and rate limits; unset to allow every caller.",
    )
    jwt_keys: Path | None = Field(
        None, description="JWKS file of the keys that sign callers' JWTs; unset to accept no JWTs."
    )
    jwt_issuer: str = Field("", description="Required `iss` of a JWT.")
    jwt_audience: str = Field("", description="Required `aud` of a JWT.")
    rate: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Rate limit of a caller: images and other calls per second and process; 0 "
        "for no limit. An entry of `callers` may override it. A caller with several"
        " connections reaches all `workers`, and gets up to that many times the "
        "rate.",
    )
    burst: int = Field(
        32,
        ge=1,
        description="Images and other calls that a caller may send at once; only with a `rate`.",
    )
    providers: Names = Field(
        (),
        description="Execution providers by preference: tensorrt, cuda, openvino, cpu, or "
        "onnxruntime's names; empty for CUDA if usable, else CPU. openvino needs the extra "
        "'openvino'.",
    )
    precision: Literal["auto", "fp32", "tf32", "fp16", "bf16", "int8"] = Field(
        "fp32",
        description="Precision of products: fp32; tf32, rounded products, with CUDA; fp16, with "
        "TensorRT; bf16, with OpenVINO on a processor that has units for it, once `textcam "
        "parity` found on this machine that the explanations agree; int8, to require an int8 "
        "backbone; auto for bf16 where that may be served, else fp32.",
    )
    engine_cache: str = Field(
        "",
        description="Folder for TensorRT's engines, which take minutes to build, OpenVINO's "
        "compiled networks, and the records of `textcam parity`; empty to keep none. Write access "
        "to this folder controls the code that runs.",
    )
    gpu_memory_limit: int = Field(
        0,
        ge=0,
        description="Maximum bytes of GPU memory per graph, with CUDA; 0 for no limit.",
    )
    session_threads: int = Field(
        0,
        ge=0,
        description="Threads of the inference session; 0 for the CPUs allowed by affinity and"
        " quota.",
    )
    decode_threads: int = Field(
        0,
        ge=0,
        description="Threads that decode images and explain; 0 for the CPUs allowed by affinity"
        " and quota.",
    )
    max_batch: int = Field(8, ge=1, description="Maximum images per inference.")
    max_delay_ms: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="Maximum milliseconds that a batch waits for images that are being decoded.",
    )
    max_queue: int = Field(
        64, ge=1, description="Maximum waiting images per lane; further ones are rejected."
    )
    max_wait_ms: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Reject interactive requests that would take more milliseconds to answer, "
        "whatever their deadline; 0 for no limit.",
    )
    audit_share: float = Field(
        0.2, ge=0, le=1, description="Part of each batch that waiting audit requests get."
    )
    max_concurrent: int = Field(
        256,
        ge=1,
        description="Maximum requests processed at a time, including decoding; further ones are"
        " rejected, and so are batches of more images.",
    )
    max_bytes_in_work: int = Field(
        512 * MIB,
        ge=1024,
        description="Maximum bytes of the requests being processed, plus streams' responses "
        "that their clients have not read; further requests are rejected.",
    )
    max_long_requests: int = Field(
        16,
        ge=1,
        description="Maximum requests at a time if their CAM method takes further passes.",
    )
    stream_concurrency: int = Field(
        16,
        ge=1,
        description="Maximum items of one ExplainStream processed at a time; the server reads "
        "the next ones later.",
    )
    max_image_bytes: int = Field(20 * MIB, ge=1, description="Maximum bytes of an encoded image.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Maximum pixels of an image.")
    reduced_decode: bool = Field(
        True,
        description="Decode large JPEG files at half or quarter size if that leaves three "
        "pixels for each pixel of the model's input; logits change by up to 0.3 of "
        "their standard deviation.",
    )
    colour_profiles: bool = Field(
        True,
        description="Convert images with an embedded ICC colour profile to sRGB, as bank "
        "building always does; false to take their numbers as sRGB's.",
    )
    max_message_bytes: int = Field(
        64 * MIB,
        ge=1024,
        le=_MOST_INT32,
        description="Maximum bytes of a gRPC message, in both directions.",
    )
    max_targets: int = Field(10, ge=1, description="Maximum explained classes per request.")
    max_phrases: int = Field(20, ge=1, description="Maximum phrases per target.")
    default_phrases: int = Field(
        5, ge=1, description="Phrases per target if the request gives no number."
    )
    direction: Literal["supports", "lda"] = Field(
        "supports",
        description="Method that chooses phrases: supports, with calibrated probabilities, if "
        "the bank has them; lda, the paper's channel embeddings and sparse "
        "selection.",
    )
    min_probability: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Leave out phrases with a lower probability if the request gives no "
        "threshold; unset for the bank's threshold.",
    )
    max_passes: int = Field(
        4096,
        ge=0,
        description="Maximum further passes of network and head per request, for its CAM method.",
    )
    workers: int = Field(
        1,
        ge=1,
        description="Server processes on the one port; more than 1 is for CPUs. Each process "
        "loads the model, takes its part of the threads, and counts rates by "
        "itself.",
    )
    max_connection_age_s: float = Field(
        0.0,
        ge=0,
        le=_LONGEST_AGE_S,
        description="Maximum age of a connection in seconds, so that balanced clients find new "
        "replicas; 0 for no limit.",
    )
    drain_seconds: float = Field(
        20.0,
        ge=0,
        allow_inf_nan=False,
        description="Maximum seconds after SIGTERM to finish requests and deliver their responses.",
    )
    log_level: LogLevel = Field(
        "INFO", description="Minimum level of the log: DEBUG, INFO, WARNING, ERROR or CRITICAL."
    )
    log_format: Literal["text", "json"] = Field(
        "text",
        description="Format of the log: text, or json with an object per line, and at INFO one "
        "per completed request.",
    )
    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^/\s]+/?)?$",
        description="OTLP/gRPC endpoint for traces, such as http://collector:4317; empty to "
        "disable tracing. Needs the extra 'tracing'.",
    )
    trace_sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Part of the requests to trace if the client's trace does not decide.",
    )

    def address(self, port: int) -> str:
        """Return HOST:PORT as in URLs, with an IPv6 address in brackets."""
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
    """Read the settings from all sources.

    Args:
        flags: Flags of the command line, which take precedence.
        config: A TOML file; None for the file that TEXTCAM_CONFIG names, if any.

    Raises:
        InvalidSettings: A setting is unknown or out of range, or the file is unreadable.
    """
    if config is not None:
        os.environ["TEXTCAM_CONFIG"] = str(config)
    named = os.environ.get("TEXTCAM_CONFIG")
    if named and not Path(named).is_file():
        fault = "is a folder" if Path(named).is_dir() else "does not exist"
        raise InvalidSettings(f"the settings file {named} {fault}; give the path of a TOML file")
    try:
        settings = ServerSettings(**flags)
    except ValidationError as error:
        if unknown := _unknown_names(error):
            raise InvalidSettings(f"in the settings file {named}, {unknown}") from error
        raise InvalidSettings(f"settings are not valid: {faults_of(error)}") from error
    except SettingsError as error:  # of an environment variable
        raise InvalidSettings(f"settings cannot be read: {error}") from error
    except ValueError as error:
        raise InvalidSettings(f"the settings file {named} is not TOML in UTF-8: {error}") from error
    _check_consistency(settings)
    return settings


def _check_consistency(settings: ServerSettings) -> None:
    if settings.default_phrases > settings.max_phrases:
        raise InvalidSettings("default_phrases is above max_phrases; lower it, or raise the other")
    if settings.max_message_bytes > settings.max_bytes_in_work:
        raise InvalidSettings(
            "max_message_bytes is above max_bytes_in_work; lower it, or raise the other"
        )
    if settings.direction == "lda" and settings.min_probability:
        raise InvalidSettings(
            "min_probability needs the probabilities of direction supports; unset it for lda"
        )
    _require_together(settings, "tls_certificate", "tls_key")
    _require_together(settings, "jwt_keys", "jwt_issuer", "jwt_audience")
    if settings.tls_client_ca and not settings.tls_certificate:
        raise InvalidSettings("tls_client_ca needs tls_certificate and tls_key; set them too")


def _unknown_names(error: ValidationError) -> str:
    """Name the unknown settings, which only a file can contain, each with a similar known one."""
    names = [str(fault["loc"][0]) for fault in error.errors() if fault["type"] == "extra_forbidden"]
    near = {name: get_close_matches(name, ServerSettings.model_fields, 1, 0.8) for name in names}
    return "; ".join(
        f"{name} is not a setting" + (f"; did you mean {near[name][0]}?" if near[name] else "")
        for name in names
    )


def faults_of(error: ValidationError) -> str:
    """Describe pydantic's findings by field, without any value."""
    return "; ".join(
        ": ".join(filter(None, (".".join(str(part) for part in fault["loc"]), fault["msg"])))
        for fault in error.errors(include_input=False)
    )


def _require_together(settings: ServerSettings, *names: str) -> None:
    given = [name for name in names if getattr(settings, name)]
    if given and len(given) < len(names):
        raise InvalidSettings(
            f"{', '.join(names)} go together, but only {', '.join(given)} is set; set all or none"
        )
