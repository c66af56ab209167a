"""Embedders of open_clip's models, for production."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import nn

from textcam_service.artefacts.files import canonical_json, sha256
from textcam_service.core.types import Float32Array, FloatArray
from textcam_service.errors import EmbedderError
from textcam_service.offline.embedders.base import Picture, as_pillow
from textcam_service.offline.embedders.dense import (
    DenseTower,
    example_images,
    stretched_batches,
    unit_rows,
)
from textcam_service.offline.embedders.kept_texts import KeptTexts
from textcam_service.offline.embedders.openclip_identity import identity_facts, load_tokenizer
from textcam_service.offline.embedders.openclip_sources import clip_source
from textcam_service.offline.embedders.openclip_towers import dense_tower
from textcam_service.offline.embedders.translated import TranslatedNetwork
from textcam_service.offline.networks.loading import state_digest
from textcam_service.offline.threads import in_threads

_BATCH = 8  # larger ones do not fit into a processor's cache, and take longer
_TEXT_BATCH = 256


class OpenClipEmbedder:
    """A CLIP that open_clip loads; on a GPU where torch has one.

    Attributes:
        identity: Name and digest of weights, preprocessing, activation and tokenizer. What is
            open_clip's default for the name is left out of the digest.
        weights_digest: Digest of the weights alone.

    Raises:
        EmbedderError: Model, tag or path is unknown; the weights or the tokenizer cannot be
            fetched or read; or nothing tells the weights' preprocessing or activation.
    """

    def __init__(self, model_name: str, pretrained: str) -> None:
        """Load the model.

        Args:
            model_name: One of `open_clip.list_models()`, "local-dir" or "hf-hub".
            pretrained: A pretrained tag, TAG@PATH or PATH, see clip_source; or the folder or
                the repository.
        """
        source = clip_source(model_name, pretrained)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model, preprocess = open_clip.create_model_from_pretrained(
                source.model,
                pretrained=source.pretrained,
                precision="fp32",
                device=self._device,
                **source.options,
            )
        except Exception as error:  # open_clip's own, and whatever fetching weights may raise
            raise EmbedderError(
                f"open_clip cannot load {source.model} with weights {source.pretrained!r} "
                f"({type(error).__name__}: {error}); without a network, fetch the checkpoint "
                "elsewhere and give its path"
            ) from error
        self._tokenizer = load_tokenizer(source)
        self._model: Any = model.eval().requires_grad_(False)
        self._preprocess: Any = preprocess
        self.weights_digest = state_digest(model)
        facts = identity_facts(source, model.visual.preprocess_cfg, self._tokenizer)
        digest = sha256(canonical_json([facts, self.weights_digest]))
        self.identity = f"open_clip/{source.label}@{digest if facts else self.weights_digest}"
        # The number of heads, for one, shows neither in the weights nor in the identity.
        self._digest = [self.identity, open_clip.get_model_config(source.model)]
        self._texts = KeptTexts(sha256(canonical_json(self._digest)))
        self.dimension = self._encode(["a"]).shape[1]
        self.logit_scale = float(model.logit_scale.detach().exp())

    def embed_texts(self, texts: Sequence[str]) -> Float32Array:
        """Embed N texts: (N, E) unit vectors; tokens beyond the model's context are cut off."""
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        return self._texts.embed(texts, self._encode)

    def _encode(self, texts: Sequence[str]) -> Float32Array:
        found = []
        for start in range(0, len(texts), _TEXT_BATCH):
            tokens = self._tokenizer(list(texts[start : start + _TEXT_BATCH]))
            with torch.inference_mode():
                unit = self._model.encode_text(tokens.to(self._device), normalize=True)
            found.append(unit.cpu().numpy().astype(np.float32))
        return np.concatenate(found)

    def embed_images(self, images: Sequence[Picture]) -> Float32Array:
        """Embed N upright RGB images (PIL, or uint8 (h, w, 3)): (N, E) unit vectors."""
        batches = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
        nothing = np.zeros((0, self.dimension), np.float32)
        return np.concatenate([nothing, *in_threads(self._embed_images, batches)])

    def _embed_images(self, images: Sequence[Picture]) -> Float32Array:
        pixels = self._pixels([as_pillow(image) for image in images])
        return np.asarray(self._network(pixels.numpy()), np.float32)

    @cached_property
    def _network(self) -> TranslatedNetwork:
        size = self._model.visual.image_size
        height, width = (size, size) if isinstance(size, int) else size
        example = partial(example_images, height, width)
        return TranslatedNetwork(self.identity, self._digest, _ImageTower(self._model), example)

    @property
    def part_size(self) -> tuple[int, int]:
        """(height, width) of the image tower's input, pixels.

        Raises:
            EmbedderError: The tower has no dense map that this package can pool.
        """
        return self._tower.size

    def embed_parts(self, pictures: Sequence[Picture], parts: Sequence[FloatArray]) -> Float32Array:
        """Embed parts of pictures, see PartEmbedder: (sum of P, E) unit vectors."""
        batches = stretched_batches(pictures, parts, self.part_size, _BATCH, self._filter)
        nothing = np.zeros((0, self.dimension), np.float32)
        return np.concatenate([nothing, *in_threads(self._embed_parts, batches)])

    def _embed_parts(
        self, batch: tuple[Sequence[Image.Image], Sequence[FloatArray]]
    ) -> Float32Array:
        stretched, parts = batch
        with torch.inference_mode():
            pixels = self._pixels(stretched).to(self._device)
            return unit_rows(self._tower.embed(pixels, parts))

    @cached_property
    def _tower(self) -> DenseTower:
        tower = dense_tower(self._model.visual, self.identity)
        return tower.translated(self.identity, self._digest) if self._device == "cpu" else tower

    @property
    def _filter(self) -> Image.Resampling:
        bilinear = self._model.visual.preprocess_cfg["interpolation"] == "bilinear"
        return Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC

    def _pixels(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        prepared = [self._preprocess(picture) for picture in pictures]
        return torch.stack(prepared)


class _ImageTower(nn.Module):
    """The part of a model that embeds images."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        unit: torch.Tensor = self.model.encode_image(pixels, normalize=True)
        return unit
