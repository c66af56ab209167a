"""The heatmaps of an answer, drawn as long as it is waited for and fits a message."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from PIL import Image
from textcam.v1 import types_pb2 as types_pb
from textcam_client._heatmaps import geometry
from textcam_client._heatmaps.colormap import blend
from textcam_client._heatmaps.view import HeatmapContext, Peak

from textcam_service.core.heatmap import heatmap, to_uint8
from textcam_service.core.types import Crop, Float32Array, UInt8Array
from textcam_service.errors import DeadlineExpired, ResponseTooLarge
from textcam_service.imaging.decoding import whole_image
from textcam_service.serving.grpc.explainer.requests import Job

# Pictures are drawn some rows at a time: what a pixel takes in between is many times its own size.
_BAND_PIXELS = 2**17


@dataclass(frozen=True)
class ImageInfo:
    """What is kept of an image while its answer is made: not its pixels.

    Many images wait for inference at a time, and their pixels are many times their files' size.

    Attributes:
        height: Of the image, in pixels.
        width: Likewise.
        decoder: What decoded it.
        crop: What the model saw of it.
    """

    height: int
    width: int
    decoder: str
    crop: Crop


class HeatmapEncoder:
    """Draws one answer's heatmaps.

    Args:
        job: What is asked for.
        scene: Of the image.
        deadline: On time.monotonic()'s clock; None: none.
        max_bytes: Of a message.

    Attributes:
        job: As given.
        scene: As given.
    """

    def __init__(self, job: Job, scene: ImageInfo, deadline: float | None, max_bytes: int) -> None:
        self.job = job
        self.scene = scene
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._bytes = 0
        self._abandoned = False

    def cancel(self) -> None:
        """Nobody waits for it any more; a thread that still draws ends with the map it is at."""
        self._abandoned = True

    def raise_if_cancelled(self) -> None:
        """Check that someone still waits.

        Raises:
            DeadlineExpired: The deadline passed, or it was abandoned.
        """
        late = self._deadline is not None and time.monotonic() >= self._deadline
        if late or self._abandoned:
            raise DeadlineExpired(
                "the deadline passed while the answer was made; allow more time, or ask for fewer "
                "targets or for the heatmap form 'saliency', which is drawn by the client"
            )

    def check(self, maps: int) -> None:
        """Refuse `maps` heatmaps, before any is drawn, that cannot fit a message.

        How large overlays become shows only when they are encoded.

        Raises:
            ResponseTooLarge: The message says what to leave out.
        """
        if self.job.heatmap == types_pb.HEATMAP_FORM_IMAGE:
            self._require_room(maps * self.scene.height * self.scene.width)

    def peak(self, saliency_map: Float32Array) -> Peak:
        """What becomes the hottest of a target's heatmaps: the strongest support of its map."""
        return Peak(saliency_map, self._crop)

    def draw(self, saliency_map: Float32Array, peak: Peak) -> types_pb.Heatmap:
        """One heatmap, in the form that is asked for; over the image it is drawn smoothly.

        Args:
            saliency_map: (H, W).
            peak: What becomes the hottest.

        Raises:
            DeadlineExpired: See raise_if_cancelled().
            ResponseTooLarge: With those before, it is over the limit.
        """
        self.raise_if_cancelled()
        scene = self.scene
        size = scene.height, scene.width
        if self.job.heatmap == types_pb.HEATMAP_FORM_IMAGE:
            levels = self._levels(heatmap(saliency_map, scene.crop, *size, max(peak.cell, 0.0)))
            dtype = types_pb.Tensor.D_TYPE_UINT8
            image = types_pb.Tensor(dtype=dtype, shape=levels.shape, data=levels.tobytes())
            drawn = types_pb.Heatmap(image=image)
        else:
            context = HeatmapContext(size, self._crop, None, peak)
            heat = context.heatmap(saliency_map, None, peak, smooth=True)
            drawn = types_pb.Heatmap(overlay_png=self._overlay(heat))
        self._bytes += drawn.ByteSize()
        self._require_room(self._bytes)
        return drawn

    def _levels(self, heat: Float32Array) -> UInt8Array:
        levels = np.empty(heat.shape, np.uint8)
        for band in self._bands():
            levels[band] = to_uint8(heat[band])
        return levels

    def _overlay(self, heat: Float32Array) -> bytes:
        overlay = np.empty_like(self._picture)
        for band in self._bands():
            overlay[band] = blend(self._picture[band], heat[band])
        file = io.BytesIO()
        Image.fromarray(overlay).save(file, "PNG", compress_level=1)
        return file.getvalue()

    @cached_property
    def _crop(self) -> geometry.Crop:
        return geometry.Crop(**asdict(self.scene.crop))

    @cached_property
    def _picture(self) -> UInt8Array:
        """(h, w, 3); a file is decoded once more."""
        if self.job.pixels is not None:
            return self.job.pixels
        assert self.job.encoded is not None  # noqa: S101 - requests.read_request saw to it
        return np.asarray(whole_image(self.job.encoded))

    def _bands(self) -> Iterator[slice]:
        rows = max(1, _BAND_PIXELS // self.scene.width)
        return (slice(top, top + rows) for top in range(0, self.scene.height, rows))

    def _require_room(self, size: int) -> None:
        require_room(size, self._max_bytes, self.job.target_count, self.scene)


def require_room(size: int, max_bytes: int, targets: int, scene: ImageInfo) -> None:
    """Refuse an answer that gRPC would not send.

    Args:
        size: Bytes that it takes, or takes at least.
        max_bytes: Of a message.
        targets: How many are explained.
        scene: Of the image.

    Raises:
        ResponseTooLarge: It is over the limit; the message says what to leave out.
    """
    if size > max_bytes:
        raise ResponseTooLarge(
            f"the answer for {targets} target(s) of a {scene.width} x {scene.height} image takes "
            f"at least {size} bytes, but this server sends messages of at most {max_bytes}; ask "
            "for fewer targets, for the heatmap form 'saliency', which is drawn by the client, or "
            "for no groups",
            field="heatmap",
        )
