"""Image, crop and scale that the maps of one target share, for drawing them."""

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
    """Strongest support of a map, in its units; it becomes 1 in a heatmap.

    Attributes:
        saliency_map: (H, W); None where maps were declined.
        crop: The part of the image that its cells cover.
    """

    saliency_map: Float32Array | None
    crop: Crop

    @cached_property
    def cell(self) -> float:
        """Largest value of its cells; 0 without a map."""
        return 0.0 if self.saliency_map is None else float(self.saliency_map.max())

    @cached_property
    def drawn(self) -> float:
        """Largest value after smooth interpolation, which flattens peaks; 0 without a map."""
        if self.saliency_map is None:
            return 0.0
        return smooth_peak(np.maximum(self.saliency_map, 0), self.crop)


@dataclass(frozen=True, eq=False)
class HeatmapContext:
    """The image behind the maps, and their common scale.

    Attributes:
        image_size: (h, w) of the image as sent, pixels.
        crop: The part of it that the maps cover.
        source: The image, or None if it was not kept.
        peak: Peak of the target's saliency map.
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
            size: (h, w) of the result; None: that of the image as sent.
            peak: The value that becomes 1; larger ones are clipped. At 0 or below there is no
                support.
            smooth: Interpolate smoothly, for pictures; see geometry.upsample.

        Returns:
            float32 (h, w), 0..1.

        Raises:
            MapsDeclined: There is no map.
        """
        if saliency_map is None:
            raise MapsDeclined(
                "this result has no such map: it was requested with heatmap='none', "
                "or, for a phrase's map, with include_groups=False; request it again with maps"
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
        """Scale the part above the map's mean to 0..1, and stretch it smoothly over the image.

        Only differences within such a map have a meaning, so its mean is taken as zero.

        Args:
            relative_map: (H, W); None if the result has none.
            size: (h, w) of the heatmap; None: that of the image as sent.

        Returns:
            float32 (h, w), 0..1.

        Raises:
            MapsDeclined: There is no map.
        """
        if relative_map is None:
            raise MapsDeclined(
                "this result has no such map: it was requested with heatmap='none' or "
                "include_groups=False, or by a server without relative maps; the rest never has one"
            )
        above = relative_map - relative_map.mean(dtype=np.float64)
        top = smooth_peak(above, self.crop)
        # Differences below the rounding error count as none.
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
        """Draw heat over the image, or over another image; return RGB.

        Args:
            heat: Function that returns the heatmap at a size (h, w).
            image: Image to draw on; None: the explained image.
            opacity: Opacity of the hottest heat.

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
        """Open the explained image, or another image, as RGB.

        Raises:
            PictureUnavailable: The image was not kept, cannot be opened, or has changed.
        """
        if image is not None:
            return ImageSource(image).picture()
        if self.source is None:
            raise PictureUnavailable("this result was kept without its image; pass image=")
        try:
            picture = self.source.picture()
        except ImageError as error:
            raise PictureUnavailable(f"the image cannot be opened again: {error}") from error
        if (picture.height, picture.width) != self.image_size:
            raise PictureUnavailable(
                f"the image had {self.image_size[0]} x {self.image_size[1]} pixels when it was "
                f"explained, but now has {picture.height} x {picture.width}"
            )
        return picture
