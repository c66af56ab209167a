"""The client of TextCAM: where an image classifier looked, and what it saw there.

    from textcam_client import Client, TopK, draw_contours, draw_figure, pseudo_mask

    with Client("localhost:50051") as client:
        explanation = client.explain("cat.jpg")
        print(explanation.explanations[0].sentence)
        explanation.explanations[0].overlay().save("where.png")
        draw_figure(explanation).save("cat-explained.png")
        mask = pseudo_mask(explanation.explanations[0])
        draw_contours("cat.jpg", mask).save("cat-contour.png")

        for explanation in client.explain_many(paths, target=TopK(2)):
            log(explanation.to_dict())

`AsyncClient` has the same methods for asyncio; `textcam_client.testing` has a server for
your own tests; `textcam_client.errors` draws the tree of what may be raised.
"""

from textcam_client._heatmaps.geometry import Crop
from textcam_client._streaming.aio import AsyncExplanations
from textcam_client._streaming.sync import Explanations
from textcam_client.aio import AsyncClient
from textcam_client.client import Client
from textcam_client.errors import (
    CallError,
    Cancelled,
    ClientClosed,
    DeadlineExceeded,
    ImageError,
    InvalidRequest,
    MalformedAnswer,
    MapsDeclined,
    MethodIgnored,
    NotFound,
    Overloaded,
    PermissionDenied,
    PictureUnavailable,
    ServerError,
    TextCamClientError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    UnreadableImage,
    UnsupportedImage,
    Violation,
)
from textcam_client.figure import draw_figure
from textcam_client.masks.connected_components import Box, bounding_boxes
from textcam_client.masks.pseudo_masks import MaskMethod, pseudo_labels, pseudo_mask
from textcam_client.masks.rendering import draw_contours, label_picture
from textcam_client.masks.rle import Rle, decode_rle, encode_rle
from textcam_client.model import Calibration, CalibrationBin, Model, ModelSummary, Provenance
from textcam_client.options import Contrast, ExplainOptions, Tls, TopK
from textcam_client.retry import Retry
from textcam_client.types import (
    Explanation,
    Phrase,
    Prediction,
    SaliencyGroup,
    TargetExplanation,
)

__all__ = [
    "AsyncClient",
    "AsyncExplanations",
    "Box",
    "Calibration",
    "CalibrationBin",
    "CallError",
    "Cancelled",
    "Client",
    "ClientClosed",
    "Contrast",
    "Crop",
    "DeadlineExceeded",
    "ExplainOptions",
    "Explanation",
    "Explanations",
    "ImageError",
    "InvalidRequest",
    "MalformedAnswer",
    "MapsDeclined",
    "MaskMethod",
    "MethodIgnored",
    "Model",
    "ModelSummary",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "Phrase",
    "PictureUnavailable",
    "Prediction",
    "Provenance",
    "Retry",
    "Rle",
    "SaliencyGroup",
    "ServerError",
    "TargetExplanation",
    "TextCamClientError",
    "Tls",
    "TopK",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnreadableImage",
    "UnsupportedImage",
    "Violation",
    "bounding_boxes",
    "decode_rle",
    "draw_contours",
    "draw_figure",
    "encode_rle",
    "label_picture",
    "pseudo_labels",
    "pseudo_mask",
]
