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

__all__ = [
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
