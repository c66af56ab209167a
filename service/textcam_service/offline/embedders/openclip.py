"""Embedders of open_clip's models, for production."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from textcam_service.core.types import Float32Array, FloatArray
from textcam_service.errors import EmbedderError
from textcam_service.offline.embedders.base import Picture, as_pillow
from textcam_service.offline.embedders.dense import DenseTower, stretched_batches, unit_rows
from textcam_service.offline.embedders.openclip_towers import dense_tower
from textcam_service.offline.networks.loading import state_digest

_BATCH = 32
_TEXT_BATCH = 256


class OpenClipEmbedder:
    """A CLIP by model name and weights, loaded by open_clip; on a GPU where torch has one.

    Raises:
        EmbedderError: Model, tag or path is unknown, or the weights cannot be fetched or read.
    """

    def __init__(self, model_name: str, pretrained: str) -> None:
        """Load the model.

        Args:
            model_name: One of `open_clip.list_models()`.
            pretrained: A pretrained tag of that model, or the path of a local checkpoint.
        """
        _check_known(model_name, pretrained)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                model_name, pretrained=pretrained, precision="fp32", device=self._device
            )
            self._tokenizer: Any = open_clip.get_tokenizer(model_name)
        except Exception as error:  # open_clip's own, and whatever fetching weights may raise
            raise EmbedderError(
                f"open_clip cannot load {model_name} with weights {pretrained!r} "
                f"({type(error).__name__}: {error}); without a network, fetch the checkpoint "
                "elsewhere and give its path"
            ) from error
        self._model: Any = model.eval().requires_grad_(False)
        self._preprocess: Any = preprocess
        self.identity = f"open_clip/{model_name}@{state_digest(model)}"
        self.dimension = self.embed_texts(["a"]).shape[1]
        self.logit_scale = float(model.logit_scale.detach().exp())

    def embed_texts(self, texts: Sequence[str]) -> Float32Array:
        """Embed N texts: (N, E) unit vectors; tokens beyond the model's context are cut off."""
        found = []
        for start in range(0, len(texts), _TEXT_BATCH):
            tokens = self._tokenizer(list(texts[start : start + _TEXT_BATCH]))
            with torch.inference_mode():
                unit = self._model.encode_text(tokens.to(self._device), normalize=True)
            found.append(unit.cpu().numpy().astype(np.float32))
        return np.concatenate(found) if found else np.zeros((0, self.dimension), np.float32)

    def embed_images(self, images: Sequence[Picture]) -> Float32Array:
        """Embed N upright RGB images (PIL, or uint8 (h, w, 3)): (N, E) unit vectors."""
        found = [np.zeros((0, self.dimension), np.float32)]
        for start in range(0, len(images), _BATCH):
            pixels = self._pixels([as_pillow(image) for image in images[start : start + _BATCH]])
            with torch.inference_mode():
                unit = self._model.encode_image(pixels, normalize=True)
            found.append(unit.cpu().numpy().astype(np.float32))
        return np.concatenate(found)

    @property
    def part_size(self) -> tuple[int, int]:
        """(height, width) of the image tower's input, pixels.

        Raises:
            EmbedderError: The tower has no dense map that this package can pool.
        """
        return self._tower.size

    def embed_parts(self, pictures: Sequence[Picture], parts: Sequence[FloatArray]) -> Float32Array:
        """Embed parts of pictures, see PartEmbedder: (sum of P, E) unit vectors."""
        found: list[Float32Array] = [np.zeros((0, self.dimension), np.float32)]
        for stretched, some in stretched_batches(pictures, parts, self.part_size, _BATCH):
            with torch.inference_mode():
                vectors = self._tower.embed(self._pixels(stretched), some)
            found.append(unit_rows(vectors))
        return np.concatenate(found)

    @cached_property
    def _tower(self) -> DenseTower:
        return dense_tower(self._model.visual, self.identity)

    def _pixels(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        prepared = [self._preprocess(picture) for picture in pictures]
        return torch.stack(prepared).to(self._device)


def _check_known(model_name: str, pretrained: str) -> None:
    if model_name not in open_clip.list_models():
        raise EmbedderError(
            f"open_clip has no model {model_name!r}; `open_clip.list_models()` names them"
        )
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if pretrained not in tags and not Path(pretrained).is_file():
        raise EmbedderError(
            f"{pretrained!r} is neither a file nor a pretrained tag of open_clip's {model_name}; "
            f"its tags: {', '.join(tags) or 'none'}"
        )
