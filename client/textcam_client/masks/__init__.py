"""Pseudo-masks, their boxes, encodings and pictures."""

from textcam_client.masks.connected_components import Box, bounding_boxes, connected_components
from textcam_client.masks.pseudo_masks import (
    MAX_LABELS,
    MaskMethod,
    otsu_threshold,
    pseudo_labels,
    pseudo_mask,
)
from textcam_client.masks.rendering import draw_contours, label_image
from textcam_client.masks.rle import Rle, decode_rle, encode_rle

__all__ = [
    "MAX_LABELS",
    "Box",
    "MaskMethod",
    "Rle",
    "bounding_boxes",
    "connected_components",
    "decode_rle",
    "draw_contours",
    "encode_rle",
    "label_image",
    "otsu_threshold",
    "pseudo_labels",
    "pseudo_mask",
]
