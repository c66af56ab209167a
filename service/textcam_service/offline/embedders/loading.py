"""Loading an embedder by its name."""

from __future__ import annotations

from textcam_service.errors import EmbedderError, MissingExtra
from textcam_service.offline.embedders.base import Embedder


def load_embedder(spec: str) -> Embedder:
    """Load an embedder.

    Args:
        spec: "packaged"; "scenes", the CLIP of the rendered world; "open_clip:MODEL:PRETRAINED",
            with a tag of that model, the path of a checkpoint, or TAG@PATH;
            "open_clip:local-dir:FOLDER"; or "open_clip:hf-hub:REPOSITORY".

    Raises:
        EmbedderError: The spec is malformed, or what it names is unknown or does not load.
        MissingExtra: A package of the extra "offline" is missing.
    """
    kind, *rest = spec.split(":", 2)
    try:
        # Imported here, because either brings packages that the other does not need.
        if kind == "packaged" and not rest:
            from textcam_service.offline.embedders.packaged import PackagedEmbedder  # noqa: PLC0415

            return PackagedEmbedder()
        if kind == "open_clip" and len(rest) == 2:
            from textcam_service.offline.embedders.openclip import OpenClipEmbedder  # noqa: PLC0415

            return OpenClipEmbedder(rest[0], rest[1])
        if kind == "scenes" and not rest:
            from textcam_service.offline.embedders.openclip import OpenClipEmbedder  # noqa: PLC0415
            from textcam_service.offline.networks.scenes import clip_checkpoint  # noqa: PLC0415

            return OpenClipEmbedder(*clip_checkpoint())
    except ImportError as error:
        raise MissingExtra(
            f"the embedder {spec!r} needs {error.name or error}; "
            "pip install 'textcam-service[offline]'"
        ) from error
    raise EmbedderError(
        f"unknown embedder {spec!r}; give 'packaged', 'scenes', 'open_clip:MODEL:PRETRAINED', "
        "PRETRAINED being a tag, a checkpoint's path or TAG@PATH, 'open_clip:local-dir:FOLDER' or "
        "'open_clip:hf-hub:REPOSITORY'"
    )
