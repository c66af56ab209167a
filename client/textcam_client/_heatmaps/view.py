"""What the maps of one target share, so that each can be drawn over the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from textcam_client._arrays import Float32Array
from textcam_client._heatmaps.colormap import blend
from textcam_client._heatmaps.geometry import Crop, smooth_peak, upsample
from textcam_client.errors import ImageError, MapsDeclined, PictureUnavailable
from textcam_client.images import ImageInput, ImageSource


@dataclass(frozen=True, eq=False)
class Peak:
    """What becomes the hottest of a heatmap: the strongest support of this map, in its units.

    Attributes:
        saliency_map: (H, W); None where maps were declined.
        crop: Where its cells lie.
    """

    saliency_map: Float32Array | None
    crop: Crop

    @cached_property
    def cell(self) -> float:
        """Of its cells; 0 where there is no map."""
        return 0.0 if self.saliency_map is None else float(self.saliency_map.max())

    @cached_property
    def drawn(self) -> float:
        """What smooth interpolation, which flattens peaks, leaves of it."""
        if self.saliency_map is None:
            return 0.0
        return smooth_peak(np.maximum(self.saliency_map, 0), self.crop)


@dataclass(frozen=True, eq=False)
class HeatmapContext:
    """The image behind the maps, and their common scale.

    Attributes:
        image_size: (h, w) of the image as sent, pixels.
        crop: The part of it that the maps cover.
        source: The image, or None where it was not kept.
        peak: Of the target's saliency map.
    """

    image_size: tuple[int, int]
    crop: Crop
    source: ImageSource | None
    peak: Peak

    def heatmap(
        self,
        saliency_map: Float32Array | None,
        size: tuple[int, int] | None,
        peak: Peak,
        *,
        smooth: bool = False,
    ) -> Float32Array:
        """Scale the map's support by `peak` and stretch it over the image.

        Args:
            saliency_map: (H, W); None where maps were declined.
            size: (h, w) of the result; None: of the image as sent.
            peak: What becomes 1; more is clipped. Not above 0: nothing is support.
            smooth: Whether it is for the eye; see geometry.upsample.

        Returns:
            float32 (h, w), 0..1.

        Raises:
            MapsDeclined: There is no map.
        """
        if saliency_map is None:
            raise MapsDeclined(
                "this answer has no such map: it was requested with heatmap='none', "
                "or for a phrase's map with include_groups=False"
            )
        support = np.maximum(saliency_map, 0)
        top = np.float32(peak.cell)
        support = np.zeros_like(support) if top <= 0 else np.minimum(support / top, 1)
        size = size or self.image_size
        heat = upsample(support, self.crop, self.image_size, size, smooth=smooth)
        if smooth and peak.drawn > 0:
            heat *= top / np.float32(peak.drawn)
        return np.clip(heat, 0, 1, out=heat)

    def relative_heatmap(
        self, relative_map: Float32Array | None, size: tuple[int, int] | None
    ) -> Float32Array:
        """Stretch what is above the map's mean over the image, smoothly, its strongest as 1.

        Only differences within such a map mean something, so it has no other zero.

        Args:
            relative_map: (H, W); None where the answer has none.
            size: (h, w) of the result; None: of the image as sent.

        Returns:
            float32 (h, w), 0..1.

        Raises:
            MapsDeclined: There is no map.
        """
        if relative_map is None:
            raise MapsDeclined(
                "this answer has no such map: it was requested with heatmap='none' or "
                "include_groups=False, or its server is older than relative maps; the rest has none"
            )
        above = relative_map - relative_map.mean(dtype=np.float64)
        top = smooth_peak(above, self.crop)
        # What rounding alone tells apart is no difference.
        if not top > 1e-5 * float(np.abs(relative_map).max()):
            above, top = np.zeros_like(above), 1.0
        size = size or self.image_size
        heat = upsample(above / top, self.crop, self.image_size, size, smooth=True)
        return np.clip(heat, 0, 1, out=heat)

    def overlay(
        self,
        heat: Callable[[tuple[int, int]], Float32Array],
        image: ImageInput | None,
        opacity: float,
    ) -> Image.Image:
        """Lay heat over the image, or over the one given instead; RGB.

        Args:
            heat: The heatmap at the size (h, w) that it is given.
            image: What to draw on; None: the image that was explained.
            opacity: Of the hottest heat.

        Raises:
            ValueError: The opacity is not 0..1.
            MapsDeclined, PictureUnavailable: As `heat` and picture().
        """
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity is 0..1, not {opacity}")
        picture = self.picture(image)
        drawn = blend(np.asarray(picture), heat((picture.height, picture.width)), opacity)
        return Image.fromarray(drawn)

    def picture(self, image: ImageInput | None = None) -> Image.Image:
        """Open the image that was explained, or the one given instead, as RGB.

        Raises:
            PictureUnavailable: It was not kept, cannot be opened, or has changed.
        """
        if image is not None:
            return ImageSource(image).picture()
        if self.source is None:
            raise PictureUnavailable("this answer was kept without its image; give the image")
        try:
            picture = self.source.picture()
        except ImageError as error:
            raise PictureUnavailable(f"the image cannot be shown again: {error}") from error
        if (picture.height, picture.width) != self.image_size:
            raise PictureUnavailable(
                f"the image was explained as one of {self.image_size[0]} x {self.image_size[1]}, "
                f"but is decoded here to {picture.height} x {picture.width}"
            )
        return picture
