"""Tokenizers of open_clip's models, and their and the preprocessing's part of an identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import open_clip
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg

from textcam_service.artefacts.files import canonical_json, sha256
from textcam_service.errors import EmbedderError
from textcam_service.offline.embedders.openclip_sources import ClipSource

# Texts on which tokenizers differ: case, punctuation, accents, other scripts, emptiness, length.
_PROBES = (
    "a photo of a cat",
    "A Photo of TWO dogs, isn't it?",
    "left_handed, black-and-white; 42%!",
    "  naïve   Straße\tcafé ",
    "红色的花 красный цветок",
    "",
    "word " * 300,
)


def load_tokenizer(source: ClipSource) -> Any:
    """Load the tokenizer of a model.

    Raises:
        EmbedderError: It cannot be fetched or read.
    """
    try:
        if source.tokenizer_folder is None:
            return open_clip.get_tokenizer(source.model)
        told = open_clip.get_model_config(source.model)["text_cfg"]
        return HFTokenizer(
            str(source.tokenizer_folder),
            context_length=told.get("context_length", DEFAULT_CONTEXT_LENGTH),
            tokenizer_mode=told.get("tokenizer_mode"),
            **told.get("tokenizer_kwargs", {}),
        )
    except Exception as error:  # open_clip's own, and whatever transformers and the hub may raise
        place = source.tokenizer_folder or source.model
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise EmbedderError(
            f"the tokenizer of {place} does not load ({reason}); without a network, put "
            "its files (tokenizer.json, tokenizer_config.json and the like) into the checkpoint's "
            "folder and give open_clip:MODEL:TAG@FOLDER or open_clip:local-dir:FOLDER"
        ) from error


def identity_facts(
    source: ClipSource, preprocessing: Mapping[str, Any], tokenizer: Any
) -> dict[str, Any]:
    """Return what an identity covers beside the name and the weights; nothing is a default.

    Args:
        source: Of the model.
        preprocessing: As open_clip notes it at the image tower.
        tokenizer: Of the model.
    """
    facts = dict(source.facts)
    usual = {key: _plain(value) for key, value in vars(PreprocessCfg()).items()}
    own = {key: _plain(value) for key, value in preprocessing.items() if key != "size"}
    other = {key: value for key, value in own.items() if value != usual.get(key)}
    if other:
        facts["preprocessing"] = other
    digest = tokenizer_digest(tokenizer)
    if digest != tokenizer_digest(SimpleTokenizer(context_length=tokenizer.context_length)):
        facts["tokenizer"] = digest
    return facts


def tokenizer_digest(tokenizer: Any) -> str:
    """Return the identity of a tokenizer: its vocabulary, and the tokens of some texts."""
    known = (
        tokenizer.encoder
        if isinstance(tokenizer, SimpleTokenizer)
        else tokenizer.tokenizer.get_vocab()
    )
    tokens = np.asarray(tokenizer(list(_PROBES)).numpy(), np.int64)
    return sha256(canonical_json([sorted(known.items()), tokens.tolist()]))


def _plain(value: Any) -> Any:
    return [float(one) for one in value] if isinstance(value, list | tuple) else value
