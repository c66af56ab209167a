"""Meaning of an open_clip spec: model, weights, preprocessing and activation.

A checkpoint's tensors tell neither how its images are prepared nor its activation. Both come
from a pretrained tag of open_clip, or from the configuration that was saved with the weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import download_pretrained_from_hf

from textcam_service.errors import EmbedderError

PUBLISHED = ("local-dir", "hf-hub")
_CONFIG = "open_clip_config.json"
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
# The order in which open_clip takes a checkpoint of a folder.
_PREFERRED = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_SUFFIXES = (".safetensors", ".bin", ".pth")
_SHOWN = 3  # tags of a kind in a message


@dataclass(frozen=True)
class ClipSource:
    """Model that an open_clip spec names.

    Attributes:
        model: Name for open_clip, with the prefix of a folder or a repository.
        label: Name in the embedder's identity.
        pretrained: Tag or path of the weights; None: the model's folder or repository holds them.
        options: Further arguments of `open_clip.create_model_from_pretrained`.
        tokenizer_folder: Folder of the tokenizer's files; None: the model's configuration tells.
        facts: Part of the identity beyond label, weights, preprocessing and tokenizer.
    """

    model: str
    label: str
    pretrained: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_folder: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def clip_source(model: str, pretrained: str) -> ClipSource:
    """Resolve the two parts of an open_clip spec.

    Args:
        model: Name of open_clip's model; or "local-dir" or "hf-hub".
        pretrained: Tag, TAG@PATH or PATH, a path being a checkpoint or its folder; or the
            folder or repository.

    Raises:
        EmbedderError: Model, tag, path or configuration is unknown; or nothing tells the
            preprocessing or the activation of the weights.
    """
    if model in PUBLISHED:
        return _published(model, pretrained)
    if model not in open_clip.list_models():
        raise EmbedderError(
            f"open_clip has no model {model!r}; `open_clip.list_models()` names them"
        )
    tag, path = _tag_and_path(model, pretrained)
    needs = _Needs.of(model, tag) if tag else _common_needs(model, pretrained)
    options = needs.options() if path and needs else {}
    facts = {}
    if needs and needs.quick_gelu and not _Needs.configured(model):
        named = f"{model}-quickgelu"
        if named in open_clip.list_models() and (path or open_clip.get_pretrained_cfg(named, tag)):
            model = named
        else:
            options["force_quick_gelu"] = facts["quick_gelu"] = True
    if path is None:
        return ClipSource(model, model, tag, options, None, facts)
    if not path.is_dir():
        return ClipSource(model, model, str(path), options, None, facts)
    checkpoint = checkpoint_in(path, (*_SUFFIXES, ".pt"))
    named_tokenizer = open_clip.get_model_config(model)["text_cfg"].get("hf_tokenizer_name")
    folder = path if named_tokenizer else None
    return ClipSource(model, model, str(checkpoint), options, folder, facts)


def checkpoint_in(folder: Path, suffixes: Sequence[str] = _SUFFIXES) -> Path:
    """Find the checkpoint of a folder: the only one, or the one that open_clip prefers.

    Raises:
        EmbedderError: There is none, or none of several is preferred.
    """
    found = {path.name: path for path in sorted(folder.iterdir()) if path.suffix in suffixes}
    for name in _PREFERRED:
        if name in found:
            return found[name]
    if len(found) == 1:
        return next(iter(found.values()))
    raise EmbedderError(
        f"{folder} holds several checkpoints ({', '.join(found)}); leave one, or name it "
        f"{_PREFERRED[0]}"
        if found
        else f"{folder} holds no checkpoint ({', '.join('*' + suffix for suffix in suffixes)})"
    )


@dataclass(frozen=True)
class _Needs:
    """Preprocessing and activation that weights of one tag want."""

    preprocessing: tuple[Any, ...]
    quick_gelu: bool

    @staticmethod
    def configured(model: str) -> bool:
        return bool(open_clip.get_model_config(model).get("quick_gelu", False))

    @classmethod
    def of(cls, model: str, tag: str) -> _Needs:
        told = open_clip.get_pretrained_cfg(model, tag)
        values = tuple(
            tuple(told[key]) if isinstance(told[key], list | tuple) else told[key]
            for key in _PREPROCESSING
        )
        # A tag that says nothing of QuickGELU does not contradict its model's configuration.
        return cls(values, bool(told.get("quick_gelu")) or cls.configured(model))

    def options(self) -> dict[str, Any]:
        return {
            f"image_{key}": value
            for key, value in zip(_PREPROCESSING, self.preprocessing, strict=True)
        }

    def __str__(self) -> str:
        mean, std, interpolation, resize_mode = self.preprocessing
        rounded = [[round(value, 3) for value in values] for values in (mean, std)]
        return (
            f"{'QuickGELU' if self.quick_gelu else 'GELU'}, {interpolation}, {resize_mode}, "
            f"mean {rounded[0]}, deviation {rounded[1]}"
        )


def _tag_and_path(model: str, pretrained: str) -> tuple[str, Path | None]:
    """Return the tag, or "", and the path of the weights, or None."""
    if open_clip.get_pretrained_cfg(model, pretrained):
        return pretrained, None
    if pretrained and Path(pretrained).exists():
        return "", Path(pretrained)
    tags = open_clip.list_pretrained_tags_by_model(model)
    tag, at, path = pretrained.partition("@")
    if at and open_clip.get_pretrained_cfg(model, tag):
        if path and Path(path).exists():
            return tag, Path(path)
        raise EmbedderError(
            f"there is no file or folder {path!r}; give a checkpoint, or a folder that holds it"
        )
    raise EmbedderError(
        f"{pretrained!r} is neither a file nor a pretrained tag of open_clip's {model}, nor "
        f"TAG@PATH of the two; its tags: {', '.join(tags) or 'none'}"
    )


def _common_needs(model: str, path: str) -> _Needs | None:
    """Return what all tags of a model want; None for a model without tags.

    Raises:
        EmbedderError: They want different things.
    """
    kinds: dict[_Needs, list[str]] = {}
    for tag in open_clip.list_pretrained_tags_by_model(model):
        kinds.setdefault(_Needs.of(model, tag), []).append(tag)
    if len(kinds) > 1:
        told = "; ".join(f"{needs}: {_listed(tags)}" for needs, tags in kinds.items())
        raise EmbedderError(
            f"weights of open_clip's {model} differ in what they want, and {path} does not tell: "
            f"{told}. Name the tag that it is, or was fine-tuned from, as "
            f"open_clip:{model}:TAG@{path}, or give a folder with its {_CONFIG} as "
            "open_clip:local-dir:FOLDER"
        )
    return next(iter(kinds), None)


def _listed(tags: Sequence[str]) -> str:
    more = len(tags) - _SHOWN
    return ", ".join(tags[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _published(kind: str, place: str) -> ClipSource:
    """Resolve a folder or a repository with its own configuration.

    Raises:
        EmbedderError: It has none, or not of the preprocessing; or it has no single checkpoint.
    """
    config = _folder_config(Path(place)) if kind == "local-dir" else _hub_config(place)
    model, preprocessing = (config.get(key) for key in ("model_cfg", "preprocess_cfg"))
    if not isinstance(model, dict) or not isinstance(preprocessing, dict):
        missing = "model_cfg" if not isinstance(model, dict) else "preprocess_cfg"
        raise EmbedderError(f"{_CONFIG} of {place} has no {missing}; add it, as open_clip saves it")
    absent = [key for key in ("mean", "std") if not preprocessing.get(key)]
    if absent:
        raise EmbedderError(
            f"preprocess_cfg in {_CONFIG} of {place} has no {' and no '.join(absent)}; add what "
            "the weights were trained with"
        )
    if kind == "local-dir":
        checkpoint_in(Path(place))
    return ClipSource(f"{kind}:{place}", "config", facts={"model": _architecture(model)})


def _folder_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EmbedderError(
            f"{folder} is no folder with a readable {_CONFIG} ({error}); give one as open_clip "
            "saves it, or open_clip:MODEL:TAG@PATH"
        ) from error
    return config if isinstance(config, dict) else {}


def _hub_config(repository: str) -> dict[str, Any]:
    try:
        path = download_pretrained_from_hf(repository, filename=_CONFIG)
    except Exception as error:  # whatever the hub's client may raise
        raise EmbedderError(
            f"{_CONFIG} of hf-hub:{repository} cannot be fetched ({error}); without a network, "
            "fetch the repository elsewhere and give its folder as open_clip:local-dir:FOLDER"
        ) from error
    return _folder_config(Path(path).parent)


def _architecture(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's configuration without what only says where parts are fetched."""
    fetched = {"hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode", "hf_model_name"}
    fetched |= {"hf_model_pretrained", "timm_model_pretrained"}
    towers = {
        key: {name: one for name, one in value.items() if name not in fetched}
        if isinstance(value, dict)
        else value
        for key, value in model.items()
    }
    return {**towers, "quick_gelu": bool(model.get("quick_gelu", False))}
