"""A backbone's graphs in onnxruntime's sessions, on the device that the settings choose."""

from __future__ import annotations

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
    TENSORRT,
    DeviceOptions,
    chosen_providers,
    engines_of,
    provider_options,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sessions:
    """Of the graphs that graphs.BackboneGraphs tells of; None: the backbone has none.

    Attributes:
        backbone: Images to logits and maps.
        head: Maps to logits, with their gradients or without.
        layers: A further layer's maps to gradients.
        device: Where maps stay; None: they are brought here.
        execution_provider: Of the backbone's graph.
    """

    backbone: ort.InferenceSession
    head: ort.InferenceSession | None
    layers: ort.InferenceSession | None
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
    """Read a backbone's graphs, verify and place them.

    Args:
        folder: The backbone's.
        manifest: As its JSON states it.
        size: Of the images.
        providers: See providers.chosen_providers.
        threads: See make_session.
        options: How to use the device.

    Raises:
        ArtefactMissing: A file is not there.
        ArtefactCorrupt: A digest is another, or a graph does not load.
        InvalidSettings: See chosen_providers and make_session.
    """
    trunk = chosen_providers(providers, options, ort.get_available_providers())
    # An engine of TensorRT is for one range of batches, and minutes in the making: only the
    # trunk's is worth it.
    others = tuple(name for name in trunk if name != TENSORRT)

    named = bool(providers) or options.precision != FP32
    if CUDA in trunk:
        _load_cuda()

    def session(
        model: bytes, names: Sequence[str] = others, engines: str = ""
    ) -> ort.InferenceSession:
        given = provider_options(names, options, size, engines)
        return make_session(model, given, threads, named=named)

    def load(name: str, names: Sequence[str] = others) -> ort.InferenceSession | None:
        stated = manifest.get(digest_key(name))
        if stated is None:
            return None
        model = read_file(folder / f"{name}.onnx")
        if sha256(model) != stated:
            raise ArtefactCorrupt(
                f"{folder}/{name}.onnx does not have the digest that its manifest states; "
                "export it again"
            )
        if TENSORRT in names and (engines := engines_of(stated, options)):
            return _by_kept_engines(Path(engines), lambda: session(model, names, engines))
        return session(model, names)

    backbone = load("backbone", trunk)
    if backbone is None:
        raise ArtefactCorrupt(f"{folder}/backbone.json names no backbone.onnx")
    provider: str = backbone.get_providers()[0]
    if provider != trunk[0]:
        _log.warning(
            "%s did not start, so the network runs on %s; put it into `providers` to be told why",
            trunk[0],
            provider,
        )
    kind = "cuda" if provider in {TENSORRT, CUDA} else "cpu"
    in_graph = kind != "cpu" if options.in_graph is None else options.in_graph
    device = Device(kind, session) if in_graph else None
    return Sessions(backbone, load("head"), load("layers"), device, provider)


@cache
def _load_cuda() -> None:
    """Load CUDA's libraries where they came as wheels, in which no loader looks for them."""
    with redirect_stdout(io.StringIO()) as said:  # stdout is the command line's
        ort.preload_dlls()
    if said.getvalue():
        _log.warning("%s", said.getvalue().strip())


def _by_kept_engines(
    folder: Path, made: Callable[[], ort.InferenceSession]
) -> ort.InferenceSession:
    """A session of TensorRT that keeps its engines; one that was written by half is made anew.

    Raises:
        InvalidSettings: The folder cannot be written, or there is no session all the same.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings(f"engine_cache: {folder} cannot be made: {error}") from error
    try:
        return made()
    except InvalidSettings as error:
        if not any(folder.iterdir()):
            raise
        _log.warning("what %s keeps is of no use (%s); it is made anew", folder, error)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        return made()


def make_session(
    model: bytes, providers: Sequence[tuple[str, dict[str, str]]], threads: int, *, named: bool
) -> ort.InferenceSession:
    """A session.

    Args:
        model: Its serialised graph.
        providers: With their options, by preference.
        threads: Of the CPU; 0: as many as this process may use.
        named: Whether the first provider was asked for, so that another is no substitute.

    Raises:
        ArtefactCorrupt: The graph does not load.
        InvalidSettings: The first provider, asked for by name, did not start, or does not take
            the graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cpus()
    options.inter_op_num_threads = 1
    # Patterns are laid out anew for each batch size, and memory climbs with every one that comes;
    # without them it stays at the largest batch's (tests/bench/bench_arena.py).
    options.enable_mem_pattern = False
    # Threads that spin while they wait took a third of the processor time of a request under load,
    # and use up a container's quota; a caller alone is served no slower without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    wanted: list[Any] = list(providers)
    try:
        # By itself onnxruntime would print why a provider failed, and go on with others.
        session = ort.InferenceSession(
            model, options, providers=wanted, enable_fallback=int(not named)
        )
    except Exception as error:
        first = providers[0][0]
        if named and first != CPU:  # the bytes are those of the manifest: it is the provider
            raise InvalidSettings(
                f"{first} cannot run the graph: {error}; choose another provider"
            ) from error
        raise ArtefactCorrupt(f"onnxruntime cannot load the graph: {error}") from error
    if named:
        require_started(providers[0][0], session.get_providers())
    return session


def require_started(first: str, started: Sequence[str]) -> None:
    """See that a provider that was asked for runs, and no other in its place.

    Raises:
        InvalidSettings: It does not.
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
