"""The backbone: a network in ONNX graphs, which answers logits, activation maps and gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from textcam_service.artefact import read_artefact, read_file, sha256
from textcam_service.core.cam import head_row
from textcam_service.core.methods import (
    Ask,
    AttentionGradients,
    Gradient,
    HeadPasses,
    ImagePasses,
    LayerGradients,
    Need,
)
from textcam_service.core.types import Crop, Float32Array, FloatArray
from textcam_service.core.vertices import Vertices
from textcam_service.cpus import usable_cpus
from textcam_service.errors import ArtefactCorrupt, InvalidSettings
from textcam_service.graphs import (
    ACTIVATION_MAPS,
    ATTENTION,
    CLASS_WEIGHTS,
    GAP_LINEAR,
    GRADIENT,
    HEAD_GRADIENT,
    INPUT,
    LAYER,
    LOGITS,
    NO_HEAD,
    TAP,
    VERTEX_POSITIONS,
    BackboneManifest,
    digest_key,
)
from textcam_service.parity import ParityReport, read_parity


@dataclass(frozen=True)
class Seen:
    """What a backbone makes of one image.

    Attributes:
        logits: (C,).
        activation_maps: (D, H, W) of the target layer.
        further: The manifest's further outputs, by name.
    """

    logits: Float32Array
    activation_maps: Float32Array
    further: Mapping[str, Float32Array] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[Float32Array, ...]:
        """Maps (D_l, H_l, W_l) of the further layers."""
        return tuple(value for name, value in self.further.items() if _is_layer(name))


def _is_layer(name: str) -> bool:
    return name.removeprefix(LAYER).isdigit()


class Backbone:
    """A verified backbone in onnxruntime sessions.

    Attributes:
        folder: Where it was loaded from.
        manifest: What it is.
        head_weights: (C, D) float32 of a GAP + linear head, else empty.
        head_bias: (C,) float32 likewise.
        execution_provider: Where onnxruntime runs it.
        parity: How closely an int8 backbone explains as the float one it was made from; None:
            it is a float one.
    """

    def __init__(self, folder: Path, *, providers: tuple[str, ...] = (), threads: int = 0) -> None:
        """Load, verify and place a backbone.

        Args:
            folder: As write_backbone wrote it.
            providers: onnxruntime execution providers by preference; empty: CUDA where this
                build of onnxruntime has it and a device answers, else CPU.
            threads: Of the session; 0: as many as this process may use.

        Raises:
            ArtefactMissing: A file is not there.
            ArtefactCorrupt: A digest is another, or the graph does not load.
            InvalidSettings: A provider is not in this build of onnxruntime.
        """
        tensors, manifest = read_artefact(folder, "backbone")
        self.folder = folder
        self.manifest = BackboneManifest.from_json(manifest)
        self.head_weights: Float32Array = tensors["head_weights"]
        self.head_bias: Float32Array = tensors["head_bias"]

        def load(name: str) -> Any:  # a session, or None
            stated = manifest.get(digest_key(name))
            if stated is None:
                return None
            model = read_file(folder / f"{name}.onnx")
            if sha256(model) != stated:
                raise ArtefactCorrupt(
                    f"{folder}/{name}.onnx does not have the digest that its manifest states; "
                    "export it again"
                )
            return _session(model, providers, threads)

        self._session, self._head, self._layers = map(load, ("backbone", "head", "layers"))
        if self._session is None:
            raise ArtefactCorrupt(f"{folder}/backbone.json names no backbone.onnx")
        self.execution_provider: str = self._session.get_providers()[0]
        self.parity: ParityReport | None = None
        if self.manifest.quantised_from:
            self.parity = read_parity(folder, self.manifest.parity_digest)

    @property
    def is_linear(self) -> bool:
        """Whether the head is global average pooling and one linear layer."""
        return self.manifest.head_kind == GAP_LINEAR

    @property
    def offers(self) -> frozenset[Need]:
        """What methods may ask of it."""
        kind = self.manifest.head_kind
        found = set()
        if kind == GAP_LINEAR:
            found.add(Need.LINEAR_HEAD)
        if kind in {GAP_LINEAR, GRADIENT}:
            found.add(Need.GRADIENT)
        if kind != NO_HEAD:
            found.add(Need.HEAD)
        if self._layers is not None and Need.GRADIENT in found:
            found.add(Need.LAYERS)
        if self.manifest.attention:
            found.add(Need.ATTENTION)
        return frozenset(found)

    def on_grid(self, crop: Crop) -> Crop:
        """Where the maps' cells lie over the part of an image that the network saw."""
        right, down = self.manifest.grid_shift
        size = self.manifest.preprocessing
        return replace(
            crop,
            shift_x=right * crop.width / size.width,
            shift_y=down * crop.height / size.height,
        )

    def vertices(self, seen: Seen) -> Vertices | None:
        """Where an image's vertices lie; None: the maps' cells lie on a grid."""
        if not self.manifest.vertices:
            return None
        size = self.manifest.preprocessing
        return Vertices(seen.further[VERTEX_POSITIONS], size.height, size.width)

    def run(self, images: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Run a batch: (N, 3, h, w) -> logits (N, C) and activation maps (N, D, H, W)."""
        logits, maps = self._session.run([LOGITS, ACTIVATION_MAPS], {INPUT: images}, _NEEDED)
        return logits, maps

    def logits(self, images: Float32Array) -> Float32Array:
        """Run a batch for its logits only: (N, 3, h, w) -> (N, C)."""
        (logits,) = self._session.run([LOGITS], {INPUT: images}, _NEEDED)
        return np.asarray(logits)

    def see(self, images: Float32Array) -> list[Seen]:
        """Run a batch for all that methods may need: (N, 3, h, w)."""
        names = [LOGITS, ACTIVATION_MAPS, *self.manifest.outputs]
        outputs = self._session.run(names, {INPUT: images})
        # Copies, so that one image that is still explained does not keep its whole batch.
        each = [[row.copy() for row in array] for array in outputs] if len(images) > 1 else outputs
        return [
            Seen(logits, maps, dict(zip(self.manifest.outputs, further, strict=True)))
            for logits, maps, *further in zip(*each, strict=True)
        ]

    def head_logits(self, maps: Float32Array, seen: Seen) -> Float32Array:
        """The head's logits (N, C) of other activation maps (N, D, H, W) in an image's place."""
        if self.is_linear:
            means = maps.mean(axis=(2, 3))
            return np.asarray(means @ self.head_weights.T + self.head_bias, np.float32)
        assert self._head is not None  # noqa: S101 - Need.HEAD
        feeds = {ACTIVATION_MAPS: np.ascontiguousarray(maps, np.float32)}
        for name in self.manifest.head_inputs:
            one = seen.further[name]
            feeds[name] = np.broadcast_to(one, (len(maps), *one.shape)).copy()
        if self.manifest.head_kind == GRADIENT:  # none asked for: see offline.onnx_lazy
            feeds[CLASS_WEIGHTS] = np.zeros((len(maps), len(seen.logits)), np.float32)
        (logits,) = self._head.run([LOGITS], feeds, _NEEDED)
        return np.asarray(logits)

    def gradients(self, seen: Sequence[Seen], class_weights: FloatArray) -> Float32Array:
        """Gradients of scores by activation maps.

        Args:
            seen: N images.
            class_weights: (N, C); the scores are class_weights . logits.

        Returns:
            (N, D, H, W).
        """
        maps = np.stack([one.activation_maps for one in seen])
        if self.is_linear:
            rows = np.stack([head_row(own, self.head_weights) for own in class_weights])
            rows = (rows / maps[0, 0].size).astype(np.float32)
            return np.broadcast_to(rows[:, :, None, None], maps.shape)
        return self._pull(self._head, maps, seen, class_weights, [HEAD_GRADIENT])[0]

    def attention(self, seen: Sequence[Seen], class_weights: FloatArray) -> Float32Array:
        """How scores rise with attention to each position: (N, L, H, W)."""
        maps = np.stack([one.activation_maps for one in seen])
        return self._pull(self._head, maps, seen, class_weights, [ATTENTION])[0]

    def layer_gradients(
        self, seen: Sequence[Seen], class_weights: FloatArray
    ) -> list[Float32Array]:
        """Gradients of scores by the further layers' maps: a list of (N, D_l, H_l, W_l)."""
        maps = np.stack([one.layers[0] for one in seen])
        taps = [f"{TAP}{index}" for index in range(len(self.manifest.layers) - 1)]
        return self._pull(self._layers, maps, seen, class_weights, [HEAD_GRADIENT, *taps])

    def answer(self, ask: Ask, seen: Seen) -> Any:
        """Answer what a method asks about an image; see core.methods.base."""
        if isinstance(ask, HeadPasses):
            return self.head_logits(ask.activation_maps, seen)
        if isinstance(ask, ImagePasses):
            return self.logits(ask.images)
        weights = ask.class_weights[None]
        if isinstance(ask, LayerGradients):
            return [gradient[0] for gradient in self.layer_gradients([seen], weights)]
        if isinstance(ask, AttentionGradients):
            return self.attention([seen], weights)[0]
        return self.gradients([seen], weights)[0]

    def answers_at_once(self, ask: Ask) -> bool:
        """Whether an answer takes arithmetic only, and no session."""
        return self.is_linear and isinstance(ask, (Gradient, HeadPasses))

    def _pull(
        self,
        session: ort.InferenceSession,
        maps: Float32Array,
        seen: Sequence[Seen],
        class_weights: FloatArray,
        wanted: list[str],
    ) -> list[Float32Array]:
        own = session is self._head
        names = self.manifest.head_inputs if own else self.manifest.layers_inputs
        feeds = {name: np.stack([one.further[name] for one in seen]) for name in names}
        feeds[ACTIVATION_MAPS] = maps
        feeds[CLASS_WEIGHTS] = np.asarray(class_weights, np.float32)
        return list(session.run(wanted, feeds, _NEEDED))

    def fingerprint(self) -> Float32Array:
        """Activation scores (D,) of one fixed synthetic image.

        A bank keeps those of the backbone it was built with; a server compares. So bank and
        backbone agree by what they compute, not only by what their manifests say.
        """
        size = self.manifest.preprocessing
        y, x = np.mgrid[0 : size.height, 0 : size.width]
        waves = [np.sin(x / (7 + 5 * c)) * np.cos(y / (11 + 3 * c)) for c in range(3)]
        image = np.asarray(waves, np.float32)[None]
        return np.asarray(self.run(image)[1][0].mean(axis=(1, 2)), np.float32)


def _needed() -> ort.RunOptions:
    options = ort.RunOptions()
    options.only_execute_path_to_fetches = True
    return options


_NEEDED = _needed()


def _session(model: bytes, providers: tuple[str, ...], threads: int) -> ort.InferenceSession:
    available = ort.get_available_providers()
    wanted = providers or tuple(
        name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available
    )
    missing = [name for name in wanted if name not in available]
    if missing:
        raise InvalidSettings(
            f"onnxruntime has no {', '.join(missing)} here, only {', '.join(available)}; "
            "install the extra 'gpu' in place of 'service', or choose another provider"
        )
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
    try:
        session = ort.InferenceSession(model, options, providers=list(wanted))
    except Exception as error:
        raise ArtefactCorrupt(f"onnxruntime cannot load the graph: {error}") from error
    if providers and providers[0] not in session.get_providers():
        raise InvalidSettings(
            f"{providers[0]} did not start, so onnxruntime fell back to "
            f"{', '.join(session.get_providers())}; see its message above for what is missing, or "
            "name no providers to take what there is"
        )
    return session
