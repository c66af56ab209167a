"""Maps of the made-up explainer, in the requested form."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_client._heatmaps.colormap import blend
from textcam_client._heatmaps.view import HeatmapContext, Peak
from textcam_client.testing._network import NetworkOutput


@dataclass(frozen=True)
class Painter:
    """Writer of the requested maps into messages; without `groups`, only the target's map."""

    form: int
    output: NetworkOutput
    channel_maps: NDArray[np.float64]
    groups: bool

    def group(
        self,
        phrase_index: int,
        channels: NDArray[np.intp],
        supports: NDArray[np.bool_] | None = None,
    ) -> types_pb.SaliencyGroup:
        """Build the group of `channels`; `supports` (D,) is True for its phrase's channels."""
        evidence = self.channel_maps[channels].mean(axis=(1, 2))
        message = types_pb.SaliencyGroup(
            phrase_index=phrase_index,
            channel_ids=channels.tolist(),
            evidence=evidence.sum(),
            evidence_for=evidence[evidence > 0].sum(),
            evidence_against=evidence[evidence <= 0].sum(),
        )
        if self.groups:
            self.paint(message, self.channel_maps[channels].sum(axis=0))
        if self.groups and supports is not None and self.form != types_pb.HEATMAP_FORM_NONE:
            message.relative_map.CopyFrom(float_tensor(self._relative_map(supports)))
        return message

    def _relative_map(self, supports: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return (H, W): the supporting channels' part beyond their share of all evidence."""
        amounts = np.abs(self.channel_maps.mean(axis=(1, 2)))
        share = amounts[supports].sum() / amounts.sum()
        return np.tensordot(supports - share, self.channel_maps, axes=1)

    def paint(
        self, message: pb.Explanation | types_pb.SaliencyGroup, saliency_map: NDArray[np.float64]
    ) -> None:
        """Add the map, and the heatmap in the requested form."""
        if self.form == types_pb.HEATMAP_FORM_NONE:
            return
        values = saliency_map.astype("<f4")
        message.saliency_map.CopyFrom(float_tensor(values))
        if self.form not in (types_pb.HEATMAP_FORM_IMAGE, types_pb.HEATMAP_FORM_OVERLAY):
            return
        peak = Peak(self.channel_maps.sum(axis=0).astype(np.float32), self.output.crop)
        size = (self.output.image.height, self.output.image.width)
        heat = HeatmapContext(size, self.output.crop, None, peak).heatmap(values, None, peak)
        if self.form == types_pb.HEATMAP_FORM_IMAGE:
            levels = (heat * 255).round().astype(np.uint8)
            image = types_pb.Tensor(
                dtype=types_pb.Tensor.D_TYPE_UINT8, shape=levels.shape, data=levels.tobytes()
            )
            message.heatmap.image.CopyFrom(image)
        else:
            buffer = io.BytesIO()
            Image.fromarray(blend(np.asarray(self.output.image), heat)).save(buffer, "PNG")
            message.heatmap.overlay_png = buffer.getvalue()


def float_tensor(values: NDArray[Any]) -> types_pb.Tensor:
    """Encode an array as float32."""
    data = values.astype("<f4").tobytes()
    return types_pb.Tensor(dtype=types_pb.Tensor.D_TYPE_FLOAT32, shape=values.shape, data=data)
