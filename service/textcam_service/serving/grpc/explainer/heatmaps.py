"""Heatmaps of a response, drawn while it is awaited and fits a message."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from PIL import Image
from textcam.v1 import types_pb2 as types_pb
from textcam_client._heatmaps import geometry
from textcam_client._heatmaps.colormap import blend
from textcam_client._heatmaps.view import HeatmapContext, Peak

from textcam_service.core.heatmap import heatmap, to_uint8
from textcam_service.core.types import Float32Array, UInt8Array
from textcam_service.errors import ResponseTooLarge
from textcam_service.imaging.decoding import whole_image
from textcam_service.serving.engine.cancellation import CancellationToken
from textcam_service.serving.engine.jobs import ExplainJob, HeatmapForm
from textcam_service.serving.engine.results import ImageInfo

# Heatmaps are drawn some rows at a time: the arithmetic takes many times a pixel's own size.
_BAND_PIXELS = 2**17


class HeatmapEncoder:
    """Draws one response's heatmaps.

    Args:
        job: The job, which names the form.
        image: The decoded image.
        token: Checked before each heatmap.
        max_bytes: Limit of a message.
    """

    def __init__(
        self, job: ExplainJob, image: ImageInfo, token: CancellationToken, max_bytes: int
    ) -> None:
        self._job = job
        self._image = image
        self._token = token
        self._max_bytes = max_bytes
        self._bytes = 0

    def peak(self, saliency_map: Float32Array) -> Peak:
        """Return the strongest support of a target's map, which is hottest in its heatmaps."""
        return Peak(saliency_map, self._crop)

    def draw(self, saliency_map: Float32Array, peak: Peak) -> types_pb.Heatmap:
        """Draw one heatmap in the job's form; overlays are drawn smoothly.

        Args:
            saliency_map: (H, W).
            peak: The value that becomes hottest.

        Raises:
            DeadlineExpired: The response is no longer awaited.
            ResponseTooLarge: Together with the heatmaps before, it is over the limit.
        """
        self._token.raise_if_cancelled()
        image = self._image
        size = image.height, image.width
        if self._job.heatmap is HeatmapForm.IMAGE:
            levels = self._levels(heatmap(saliency_map, image.crop, *size, max(peak.cell, 0.0)))
            dtype = types_pb.Tensor.D_TYPE_UINT8
            drawn = types_pb.Heatmap(
                image=types_pb.Tensor(dtype=dtype, shape=levels.shape, data=levels.tobytes())
            )
        else:
            context = HeatmapContext(size, self._crop, None, peak)
            heat = context.heatmap(saliency_map, None, peak, smooth=True)
            drawn = types_pb.Heatmap(overlay_png=self._overlay(heat))
        self._bytes += drawn.ByteSize()
        check_message_size(self._bytes, self._max_bytes, self._job.target_count, image)
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
        return geometry.Crop(**vars(self._image.crop))

    @cached_property
    def _picture(self) -> UInt8Array:
        """Pixels (h, w, 3); a file is decoded once more."""
        image = self._job.image
        if not isinstance(image, bytes):
            return image
        return np.asarray(whole_image(image, self._image.use_profile))

    def _bands(self) -> Iterator[slice]:
        rows = max(1, _BAND_PIXELS // self._image.width)
        return (slice(top, top + rows) for top in range(0, self._image.height, rows))


def check_map_count(job: ExplainJob, image: ImageInfo, map_count: int, max_bytes: int) -> None:
    """Refuse heatmaps that cannot fit a message, before any is drawn.

    The size of overlays is known only when they are encoded.

    Raises:
        ResponseTooLarge: The message says what to leave out.
    """
    if job.heatmap is HeatmapForm.IMAGE:
        size = map_count * image.height * image.width
        check_message_size(size, max_bytes, job.target_count, image)


def check_message_size(size: int, max_bytes: int, targets: int, image: ImageInfo) -> None:
    """Refuse a response that is too large for a message.

    Args:
        size: Bytes that it takes, or takes at least.
        max_bytes: Limit of a message.
        targets: Number of explained targets.
        image: The decoded image.

    Raises:
        ResponseTooLarge: It is over the limit; the message says what to leave out.
    """
    if size > max_bytes:
        raise ResponseTooLarge(
            f"the answer for {targets} target(s) of a {image.width} x {image.height} image takes "
            f"at least {size} bytes, but this server sends messages of at most {max_bytes}; ask "
            "for fewer targets, for the heatmap form 'saliency', which is drawn by the client, or "
            "for no groups",
            field="heatmap",
        )
