"""What several commands share."""

from __future__ import annotations

import importlib.util

from textcam_service.errors import MissingExtra

_EXTRAS = {
    "service": ("onnxruntime", "safetensors", "pydantic_settings", "grpc_health"),
    "offline": ("onnxruntime", "torch", "onnx", "sentence_transformers", "open_clip", "tqdm"),
}


def need(extra: str) -> None:
    """Say which extra a command needs.

    Raises:
        MissingExtra: A package of it is not installed.
    """
    absent = [name for name in _EXTRAS[extra] if importlib.util.find_spec(name) is None]
    if absent:
        raise MissingExtra(
            f"this command needs the extra '{extra}' ({', '.join(absent)} not installed): "
            f"pip install 'textcam-service[{extra}]'"
        )
