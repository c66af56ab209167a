"""Client of TextCAM: explains where an image classifier looked and what it saw there.

    from textcam_client import Client, TopK, draw_contours, draw_figure, pseudo_mask

    with Client("localhost:50051") as client:
        result = client.explain("cat.jpg")
        print(result.sentence)
        result.overlay().save("where.png")
        draw_figure(result).save("cat-explained.png")
        draw_contours("cat.jpg", pseudo_mask(result)).save("cat-contour.png")

        for result in client.explain_many(paths, target=TopK(2)):
            log(result.to_dict())  # result.explanations: one per target

`AsyncClient` has the same methods for asyncio. `textcam_client.testing` has a server for
your own tests. `textcam_client.errors` shows the tree of errors.
"""

from textcam_client._heatmaps.geometry import Crop
from textcam_client._streaming.aio import AsyncResultStream
from textcam_client._streaming.sync import ResultStream
from textcam_client.aio import AsyncClient
from textcam_client.client import Client
from textcam_client.errors import (
    CallError,
    Cancelled,
    ClientClosed,
    DeadlineExceeded,
    ImageError,
    InvalidRequest,
    MalformedResponse,
    MapsDeclined,
    MethodIgnored,
    NotFound,
    Overloaded,
    PermissionDenied,
    PictureUnavailable,
    ServerError,
    SeveralTargets,
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
from textcam_client.masks.rendering import draw_contours, label_image
from textcam_client.masks.rle import Rle, decode_rle, encode_rle
from textcam_client.model import Calibration, CalibrationBin, Model, ModelSummary, Provenance
from textcam_client.options import Contrast, ExplainOptions, Targeted, Tls, TopK
from textcam_client.result import ExplainResult
from textcam_client.retry import Retry
from textcam_client.types import Explanation, Phrase, Prediction, SaliencyGroup

__all__ = [
    "AsyncClient",
    "AsyncResultStream",
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
    "ExplainResult",
    "Explanation",
    "ImageError",
    "InvalidRequest",
    "MalformedResponse",
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
    "ResultStream",
    "Retry",
    "Rle",
    "SaliencyGroup",
    "ServerError",
    "SeveralTargets",
    "Targeted",
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
    "label_image",
    "pseudo_labels",
    "pseudo_mask",
]
