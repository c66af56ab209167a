"""Small CLIPs of open_clip: configurations, seeded checkpoints and pretrained tags of files."""

import json

import open_clip
import torch
from open_clip import pretrained

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
OPENAI = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
SQUASHED = {
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


def register(folder, name, config=None):
    """Register a configuration with open_clip; give the path of a seeded checkpoint of it."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config or CONFIG))
    open_clip.add_model_config(path)
    return save_weights(folder / f"{name}.pt", config or CONFIG)


def save_weights(path, config=CONFIG):
    """Save the seeded state of a configuration's model."""
    text = {key: value for key, value in config["text_cfg"].items() if "tokenizer" not in key}
    torch.manual_seed(3)
    model = open_clip.CLIP(**{**config, "text_cfg": text})
    torch.save(model.state_dict(), path)
    return path


def add_tags(monkeypatch, name, **tags):
    """Give a model pretrained tags, as open_clip's own table does."""
    monkeypatch.setitem(pretrained._PRETRAINED, name, tags)


def save_folder(folder, preprocess=SQUASHED, **model):
    """Write a folder as open_clip publishes it: configuration and weights."""
    folder.mkdir(exist_ok=True)
    config = {"model_cfg": {**CONFIG, **model}}
    if preprocess is not None:
        config["preprocess_cfg"] = preprocess
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_weights(folder / "open_clip_pytorch_model.bin")
    return folder


def save_tokenizer(folder, words):
    """Write the files of a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - slow
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - slow

    vocabulary = {word: index for index, word in enumerate(["<pad>", "<unk>", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", sep_token="<pad>"
    )
    made.save_pretrained(folder)
    return folder
