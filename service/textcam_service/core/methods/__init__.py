"""The CAM family, each method under its name."""

from textcam_service.core.methods.base import (
    AttentionGradients,
    CamTerms,
    Capability,
    Gradient,
    HeadPasses,
    ImagePasses,
    LayerGradients,
    Method,
    MethodInput,
    MethodSettings,
    Query,
    QueryGenerator,
    run_method,
)
from textcam_service.core.methods.registry import METHODS

__all__ = [
    "METHODS",
    "AttentionGradients",
    "CamTerms",
    "Capability",
    "Gradient",
    "HeadPasses",
    "ImagePasses",
    "LayerGradients",
    "Method",
    "MethodInput",
    "MethodSettings",
    "Query",
    "QueryGenerator",
    "run_method",
]
