"""What the maps of one target share, so that each can be drawn over the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from textcam_client.colormap import blend
from textcam_client.errors import ImageError, MapsDeclined, PictureUnavailable
from textcam_client.geometry import Crop, Float32Array, upsample
from textcam_client.images import ImageInput, ImageSource


@dataclass(frozen=True, eq=False)
class View:
    """The image behind the maps, and their common scale.

    Attributes:
        image_size: (h, w) of the image as sent, pixels.
        crop: The part of it that the maps cover.
        source: The image, or None where it was not kept.
        peak: Largest value of the target's saliency map, in its units.
    """

    image_size: tuple[int, int]
    crop: Crop
    source: ImageSource | None
    peak: float

    def heatmap(
        self, saliency_map: Float32Array | None, size: tuple[int, int] | None, peak: float
    ) -> Float32Array:
        """Scale the map's support by `peak` and stretch it over the image.

        Args:
            saliency_map: (H, W); None where maps were declined.
            size: (h, w) of the result; None: of the image as sent.
            peak: The value that becomes 1; more is clipped. Not above 0: nothing is support.

        Returns:
            float32 (h, w), 0..1.

        Raises:
            MapsDeclined: There is no map.
        """
        if saliency_map is None:
            raise MapsDeclined(
                "this answer has no such map: it was requested with heatmap='none', "
                "or for a phrase's map with groups=False"
            )
        support = np.maximum(saliency_map, 0)
        support = np.zeros_like(support) if peak <= 0 else np.minimum(support / np.float32(peak), 1)
        heat = upsample(support, self.crop, self.image_size, size or self.image_size)
        return np.clip(heat, 0, 1)

    def overlay(
        self,
        saliency_map: Float32Array | None,
        image: ImageInput | None,
        peak: float,
        opacity: float,
    ) -> Image.Image:
        """Lay the heatmap over the image, or over the one given instead; RGB.

        Raises:
            ValueError: The opacity is not 0..1.
            MapsDeclined, PictureUnavailable: As heatmap() and picture().
        """
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity is 0..1, not {opacity}")
        picture = self.picture(image)
        heat = self.heatmap(saliency_map, (picture.height, picture.width), peak)
        return Image.fromarray(blend(np.asarray(picture), heat, opacity))

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
