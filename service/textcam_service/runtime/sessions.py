"""Sessions of a backbone's graphs, in onnxruntime or OpenVINO, on the configured device."""

from __future__ import annotations

import importlib.util
import io
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime as ort

from textcam_service.artefacts.backbone import digest_key
from textcam_service.artefacts.files import read_file, sha256
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ArtefactCorrupt, InvalidSettings
from textcam_service.runtime.cpus import usable_cpus
from textcam_service.runtime.device_tensors import Device
from textcam_service.runtime.providers import (
    CPU,
    CUDA,
    FP32,
    INT8,
    OPENVINO,
    TENSORRT,
    DeviceOptions,
    chosen_providers,
    engines_of,
    provider_options,
)
from textcam_service.runtime.session import Session

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sessions:
    """Sessions of a backbone's graphs; see artefacts.backbone.BackboneGraphs.

    Attributes:
        backbone: Session from images to logits and maps.
        head: Session from maps to logits, with or without gradients; None: the backbone has no such
            graph.
        layers: Session from a further layer's maps to gradients; None: the backbone has no such
            graph.
        device: Device that keeps the maps; None: they are brought to the host.
        execution_provider: Execution provider of the backbone's graph.
    """

    backbone: Session
    head: Session | None
    layers: Session | None
    device: Device | None
    execution_provider: str


def load_sessions(
    folder: Path,
    manifest: Mapping[str, Any],
    size: Preprocessing,
    providers: Sequence[str],
    threads: int,
    options: DeviceOptions,
) -> Sessions:
    """Read a backbone's graphs, verify them and start their sessions.

    Args:
        folder: Folder of the backbone.
        manifest: Content of backbone.json.
        size: Size of the input.
        providers: See providers.chosen_providers.
        threads: See make_session.
        options: Use of the device.

    Raises:
        ArtefactMissing: A file is missing.
        ArtefactCorrupt: A digest does not match, or a graph does not load.
        InvalidSettings: See chosen_providers and make_session.
    """
    trunk = chosen_providers(providers, options, available_providers())
    graphs = _read_graphs(folder, manifest)
    if trunk[0] == OPENVINO:
        from textcam_service.runtime.openvino_loading import (  # noqa: PLC0415 - extra 'openvino'
            openvino_sessions,
        )

        is_int8 = bool(manifest.get("quantized_from"))
        own = openvino_sessions(graphs, size, threads, options, is_int8=is_int8)
        return Sessions(own["backbone"], own.get("head"), own.get("layers"), None, OPENVINO)
    # Building an engine of TensorRT takes minutes, for one range of batch sizes: worth it for the
    # trunk alone.
    others = tuple(name for name in trunk if name != TENSORRT)
    named = bool(providers) or options.precision not in {FP32, INT8}
    if CUDA in trunk:
        _load_cuda()

    def start(
        model: bytes, names: Sequence[str] = others, engines: str = ""
    ) -> ort.InferenceSession:
        pairs = provider_options(names, options, size, engines)
        return make_session(model, pairs, threads, named=named)

    def load(name: str, names: Sequence[str] = others) -> ort.InferenceSession | None:
        if name not in graphs:
            return None
        model, digest = graphs[name]
        if TENSORRT in names and (engines := engines_of(digest, options)):
            return _with_cached_engines(Path(engines), lambda: start(model, names, engines))
        return start(model, names)

    backbone: Any = load("backbone", trunk)
    provider = _started_provider(backbone, trunk[0])
    kind = "cuda" if provider in {TENSORRT, CUDA} else "cpu"
    in_graph = kind != "cpu" if options.in_graph is None else options.in_graph
    device = Device(kind, start) if in_graph else None
    return Sessions(backbone, load("head"), load("layers"), device, provider)


def available_providers() -> tuple[str, ...]:
    """List the providers of this build of onnxruntime, and OpenVINO if it is installed."""
    own = (OPENVINO,) if importlib.util.find_spec("openvino") else ()
    return (*ort.get_available_providers(), *own)


def _read_graphs(folder: Path, manifest: Mapping[str, Any]) -> dict[str, tuple[bytes, str]]:
    """Read the graphs with their digests, by name."""
    graphs = {
        name: (_read_graph(folder, name, digest), digest)
        for name in ("backbone", "head", "layers")
        if (digest := manifest.get(digest_key(name))) is not None
    }
    if "backbone" not in graphs:
        raise ArtefactCorrupt(f"{folder}/backbone.json names no backbone.onnx")
    return graphs


def _read_graph(folder: Path, name: str, digest: str) -> bytes:
    model = read_file(folder / f"{name}.onnx")
    if sha256(model) != digest:
        raise ArtefactCorrupt(
            f"{folder}/{name}.onnx does not have the digest that its manifest states; "
            "export it again"
        )
    return model


def _started_provider(session: ort.InferenceSession, wanted: str) -> str:
    """Return the session's execution provider; log if it is not the wanted one."""
    provider: str = session.get_providers()[0]
    if provider != wanted:
        _log.warning(
            "%s did not start, so the network runs on %s; name it in `providers` to see why",
            wanted,
            provider,
        )
    return provider


@cache
def _load_cuda() -> None:
    """Load CUDA's libraries if they were installed as wheels, where no loader finds them."""
    with redirect_stdout(io.StringIO()) as printed:  # stdout is the command line's
        ort.preload_dlls()
    if printed.getvalue():
        _log.warning("%s", printed.getvalue().strip())


def _with_cached_engines(
    folder: Path, start: Callable[[], ort.InferenceSession]
) -> ort.InferenceSession:
    """Start a session of TensorRT with cached engines; unusable ones are built again.

    Raises:
        InvalidSettings: The folder is not writable, or the session does not start even so.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings(f"engine_cache: {folder} cannot be created: {error}") from error
    try:
        return start()
    except InvalidSettings as error:
        if not any(folder.iterdir()):
            raise
        _log.warning("the engines in %s are unusable (%s); they are built again", folder, error)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        return start()


def make_session(
    model: bytes, providers: Sequence[tuple[str, dict[str, str]]], threads: int, *, named: bool
) -> ort.InferenceSession:
    """Start a session.

    Args:
        model: Serialised graph.
        providers: Providers with their options, in order of preference.
        threads: Threads of the CPU; 0: as many as this process may use.
        named: If True, the first provider was requested, and no other replaces it.

    Raises:
        ArtefactCorrupt: The graph does not load.
        InvalidSettings: The first provider was requested by name, and did not start or does not
            support the graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cpus()
    options.inter_op_num_threads = 1
    # A memory pattern is kept for each batch size, and memory grows with each new one; without
    # patterns it stays at the largest batch's (tests/bench/bench_arena.py).
    options.enable_mem_pattern = False
    # Threads that spin while they wait took a third of a request's processor time under load, and
    # use up a container's quota; without, a single caller is served no slower.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    wanted: list[Any] = list(providers)
    try:
        # With the fallback, onnxruntime prints why a provider failed, and goes on with others.
        session = ort.InferenceSession(
            model, options, providers=wanted, enable_fallback=int(not named)
        )
    except Exception as error:
        first = providers[0][0]
        if named and first != CPU:  # the graph has its digest: the provider is at fault
            raise InvalidSettings(
                f"{first} cannot run the graph: {error}; choose another provider"
            ) from error
        raise ArtefactCorrupt(f"onnxruntime cannot load the graph: {error}") from error
    if named:
        require_started(providers[0][0], session.get_providers())
    return session


def require_started(first: str, started: Sequence[str]) -> None:
    """Check that a requested provider runs, and no other in its place.

    Raises:
        InvalidSettings: It does not run.
    """
    if first in started:
        return
    what = {
        TENSORRT: "TensorRT's libraries (libnvinfer, libnvonnxparser) or CUDA's",
        CUDA: "a driver, CUDA's libraries or cuDNN",
    }.get(first, "what it needs")
    raise InvalidSettings(
        f"{first} did not start, so onnxruntime fell back to {', '.join(started)}; {what} cannot "
        "be loaded, see its message above, or name no providers to take what there is"
    )
