"""Tensors that stay on a session's device, and small graphs that sum them there.

A batch's activation maps are large, and an explanation needs little of them: their means and a few
weighted sums. So the maps stay on the device, as onnxruntime's OrtValues, bound to the inputs of
the next graph (IOBinding). The CPU is a device like any other: the same code runs there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from textcam_service.artefacts.backbone import ACTIVATION_MAPS, CLASS_WEIGHTS, HEAD_GRADIENT
from textcam_service.artefacts.packaged import DEVICE
from textcam_service.core.maps import Maps
from textcam_service.core.types import Float32Array, Float64Array, FloatArray

# Names in the small graphs; see offline.export.device_graphs.
VALUES, ROWS, WEIGHTS = "values", "rows", "weights"
PICKED, SCORES, SUMS = "picked", "scores", "sums"

_Feed: TypeAlias = "NDArray[Any] | ort.OrtValue"


@dataclass(frozen=True)
class Buckets:
    """Sizes to which batches are padded, ascending; without any, batches run as they come."""

    sizes: tuple[int, ...] = ()

    def of(self, count: int) -> int:
        """Return the smallest size that holds a batch; beyond the last, the batch's own."""
        return next((size for size in self.sizes if size >= count), count)

    def filled(self, images: Float32Array) -> Float32Array:
        """Pad a batch (N, 3, h, w) with images of zeros to the size of its bucket."""
        lacking = self.of(len(images)) - len(images)
        return np.pad(images, [(0, lacking), (0, 0), (0, 0), (0, 0)]) if lacking else images

    def parts(self, images: Float32Array) -> list[Float32Array]:
        """Cut a batch into parts of at most the last size, as TensorRT's engines require."""
        size = self.sizes[-1] if self.sizes else 0
        if len(images) <= size or not size:
            return [images]
        return [images[start : start + size] for start in range(0, len(images), size)]


class Device:
    """A device that keeps tensors, with the sessions of the small graphs.

    Thread-safe, as onnxruntime's sessions are.

    Args:
        kind: onnxruntime's name of the device: "cuda" or "cpu".
        session: Function that makes a session of a serialised graph on that device.
    """

    def __init__(self, kind: str, session: Callable[[bytes], ort.InferenceSession]) -> None:
        self.kind = kind
        self._rows, self._scores, self._weighted = (
            session((DEVICE / f"{name}.onnx").read_bytes())
            for name in ("rows", "scores", "weighted")
        )

    def run(
        self,
        session: ort.InferenceSession,
        feeds: Mapping[str, _Feed],
        home: Sequence[str] = (),
        stay: Sequence[str] = (),
    ) -> tuple[list[Float32Array], list[ort.OrtValue]]:
        """Run a graph.

        Args:
            session: Session of the graph, on this device.
            feeds: Its inputs; arrays are copied to the device.
            home: Outputs to bring to the host.
            stay: Outputs that stay on the device.

        Returns:
            Both kinds of outputs, in the order of their names.
        """
        binding = session.io_binding()
        for name, value in feeds.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, np.ascontiguousarray(value))
            else:
                binding.bind_ortvalue_input(name, value)
        for name in home:
            binding.bind_output(name, "cpu")
        for name in stay:
            binding.bind_output(name, self.kind)
        # Returns once the run's own stream is done. synchronize_outputs() would wait for all that
        # the device does, the next batch included, and hold the interpreter's lock meanwhile.
        session.run_with_iobinding(binding, NEEDED)
        outputs = binding.get_outputs()
        binding.clear_binding_inputs()  # outputs keep the binding, which would keep its inputs
        return [value.numpy() for value in outputs[: len(home)]], outputs[len(home) :]

    def scores(self, maps: ort.OrtValue) -> Float32Array:
        """Average maps over positions: (N, D, H, W) -> (N, D)."""
        return self.run(self._scores, {VALUES: maps}, home=[SCORES])[0][0]

    def gather(self, rows: Sequence[DeviceRow]) -> ort.OrtValue:
        """Gather rows of one batch into a batch (M, ...) that stays on the device."""
        feeds: dict[str, _Feed] = {VALUES: rows[0].batch, ROWS: _places(row.index for row in rows)}
        return self.run(self._rows, feeds, stay=[PICKED])[1][0]

    def to_host(self, batch: ort.OrtValue, row: int) -> Float32Array:
        """Bring one row of a batch to the host: (N, ...) -> (...)."""
        (rows,), _ = self.run(self._rows, {VALUES: batch, ROWS: _places([row])}, home=[PICKED])
        return np.asarray(rows[0])

    def weighted(self, maps: ort.OrtValue, row: int, weights: FloatArray) -> Float32Array:
        """Compute weighted sums of one image's maps: (N, D, H, W), (K, D) -> (K, H W)."""
        feeds = {VALUES: maps, ROWS: _places([row]), WEIGHTS: weights[None].astype(np.float32)}
        (sums,), _ = self.run(self._weighted, feeds, home=[SUMS])
        return np.asarray(sums[0])

    def rows(self, batch: ort.OrtValue, count: int, *, are_maps: bool) -> list[DeviceRow]:
        """Split a batch into the rows of its first images, with their scores if they are maps."""
        scores = self.scores(batch) if are_maps else [None] * count
        return [DeviceRow(self, batch, index, scores[index]) for index in range(count)]

    def gradients(
        self,
        head: ort.InferenceSession,
        given: Mapping[str, Sequence[DeviceRow]],
        class_weights: FloatArray,
        buckets: Buckets,
    ) -> list[DeviceRow]:
        """Run a head's graph with gradients for N images, once per batch that holds some of them.

        Args:
            head: Session of the head's graph, on this device.
            given: N rows of each input, by name.
            class_weights: (N, C).
            buckets: Sizes to which batches are padded, by repeating their last image.

        Returns:
            N rows of gradients (D, H, W), in the images' order.
        """
        batches: dict[int, list[int]] = {}
        for place, row in enumerate(given[ACTIVATION_MAPS]):
            batches.setdefault(id(row.batch), []).append(place)
        found: dict[int, DeviceRow] = {}
        for places in batches.values():
            filled = places + places[-1:] * (buckets.of(len(places)) - len(places))
            feeds: dict[str, _Feed] = {
                name: self.gather([rows[place] for place in filled]) for name, rows in given.items()
            }
            feeds[CLASS_WEIGHTS] = np.asarray(class_weights[filled], np.float32)
            _, (gradient,) = self.run(head, feeds, stay=[HEAD_GRADIENT])
            found |= zip(places, self.rows(gradient, len(places), are_maps=True), strict=True)
        return [found[place] for place in range(len(class_weights))]


class DeviceRow:
    """One image's row of a batch's tensor on a device; a row of maps is core.maps.RemoteMaps.

    A row keeps its whole batch in the device's memory.

    Args:
        device: Device that holds the batch.
        batch: (N, ...).
        index: Index of the image.
        scores: (D,) means of the image's maps; None for other tensors.
    """

    def __init__(
        self, device: Device, batch: ort.OrtValue, index: int, scores: Float32Array | None = None
    ) -> None:
        self.batch, self.index = batch, index
        self.shape = tuple(batch.shape()[1:])
        self._device, self._scores = device, scores
        self._here: Float32Array | None = None

    def scores(self) -> Float64Array:
        """Return each map's mean over its positions: (D,)."""
        assert self._scores is not None  # noqa: S101 - of maps only
        return self._scores.astype(np.float64)

    def weighted(self, weights: FloatArray) -> Float32Array:
        """Compute several weighted sums of the maps: (K, D) -> (K, H, W)."""
        sums = self._device.weighted(self.batch, self.index, weights)
        return sums.reshape(-1, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Float32Array:
        """Bring the row to the host; copied from the device once."""
        if self._here is None:
            self._here = self._device.to_host(self.batch, self.index)
        return np.array(self._here, dtype) if copy else np.asarray(self._here, dtype)


def rows_only(given: Mapping[str, Sequence[Maps]]) -> dict[str, list[DeviceRow]] | None:
    """Return the inputs by name if all are rows of batches on a device; else None."""
    found = {
        name: [own for own in values if isinstance(own, DeviceRow)]
        for name, values in given.items()
    }
    return found if all(len(found[name]) == len(given[name]) for name in given) else None


def _places(rows: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(rows, np.int64)


def _needed() -> ort.RunOptions:
    options = ort.RunOptions()
    options.only_execute_path_to_fetches = True
    return options


# Run options: outputs that are not fetched are not computed.
NEEDED = _needed()
