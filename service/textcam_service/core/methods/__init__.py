"""The CAM family, each method by its name."""

from textcam_service.core.methods.base import (
    Ask,
    AttentionGradients,
    CamTerms,
    Gradient,
    HeadPasses,
    ImagePasses,
    LayerGradients,
    Method,
    MethodSettings,
    Need,
    Steps,
    Subject,
    drive,
)
from textcam_service.core.methods.registry import METHODS

__all__ = [
    "METHODS",
    "Ask",
    "AttentionGradients",
    "CamTerms",
    "Gradient",
    "HeadPasses",
    "ImagePasses",
    "LayerGradients",
    "Method",
    "MethodSettings",
    "Need",
    "Steps",
    "Subject",
    "drive",
]
