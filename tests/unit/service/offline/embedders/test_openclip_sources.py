"""Which preprocessing and activation an open_clip spec comes to; against open_clip's own table."""

import json

import open_clip
import pytest
import tiny_clips
from textcam_service.errors import EmbedderError
from textcam_service.offline.embedders.openclip_sources import checkpoint_in, clip_source

TAGS = open_clip.list_pretrained()
# Its configuration says QuickGELU, its tag nothing.
BY_CONFIGURATION = ("roberta-ViT-B-32", "laion2b_s12b_b32k")


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "clip.pt"
    path.touch()
    return path


def quick_gelu(source):
    config = open_clip.get_model_config(source.model)
    return config.get("quick_gelu", False) or source.options.get("force_quick_gelu", False)


def needs(model, tag):
    told = open_clip.get_pretrained_cfg(model, tag)
    keys = ("mean", "std", "interpolation", "resize_mode")
    preprocessing = {f"image_{key}": told[key] for key in keys}
    return preprocessing, told.get("quick_gelu", False) or (model, tag) == BY_CONFIGURATION


def test_every_tag_has_the_activation_that_its_weights_want():
    found = {tag: quick_gelu(clip_source(*tag)) for tag in TAGS}
    assert found == {tag: needs(*tag)[1] for tag in TAGS}
    assert clip_source("ViT-B-32", "openai").label == "ViT-B-32-quickgelu"
    assert clip_source("ViT-B-32", "laion2b_s34b_b79k").label == "ViT-B-32"


def test_every_checkpoint_with_its_tag_has_what_the_tag_has(checkpoint):
    for model, tag in TAGS:
        source = clip_source(model, f"{tag}@{checkpoint}")
        options = {key: value for key, value in source.options.items() if "image" in key}
        assert (options, quick_gelu(source)) == needs(model, tag), (model, tag)
        assert source.pretrained == str(checkpoint)


def test_a_checkpoint_alone_has_what_all_tags_have_or_is_refused(checkpoint):
    refused = set()
    for model in {model for model, _ in TAGS}:
        wanted = [needs(model, tag) for tag in open_clip.list_pretrained_tags_by_model(model)]
        try:
            source = clip_source(model, str(checkpoint))
        except EmbedderError as error:
            refused.add(model)
            assert any(one != wanted[0] for one in wanted), model
            assert f"open_clip:{model}:TAG@{checkpoint}" in str(error)
        else:
            assert [(source.options, quick_gelu(source))] * len(wanted) == wanted, model
    expected = {"ViT-B-16", "ViT-B-32", "ViT-H-14", "ViT-H-14-quickgelu", "ViT-L-14", "ViT-bigG-14"}
    assert refused == expected


def test_a_refusal_says_what_differs(checkpoint):
    with pytest.raises(EmbedderError, match=r"QuickGELU, .*: openai.*; GELU, .*laion2b.* more"):
        clip_source("ViT-B-32", str(checkpoint))


def test_a_model_without_tags_has_open_clips_own_defaults(checkpoint):
    source = clip_source("ViT-S-32", str(checkpoint))
    assert (source.model, source.options, source.facts) == ("ViT-S-32", {}, {})


def test_quickgelu_is_forced_where_no_model_is_named_so(tmp_path, monkeypatch):
    path = tiny_clips.register(tmp_path, "textcam-plain")
    tiny_clips.add_tags(monkeypatch, "textcam-plain", quick={**tiny_clips.OPENAI, "quick_gelu": 1})
    source = clip_source("textcam-plain", f"quick@{path}")
    assert source.options["force_quick_gelu"]
    assert source.facts == {"quick_gelu": True}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("openai@", "no file or folder ''.*give a checkpoint"),
        ("openai@/none/clip.pt", "no file or folder '/none/clip.pt'"),
        ("nothing@/none", r"neither a file nor a pretrained tag .* nor TAG@PATH.*openai"),
    ],
)
def test_unknown_tags_and_paths_are_refused(given, message):
    with pytest.raises(EmbedderError, match=message):
        clip_source("ViT-B-32", given)


def test_a_path_may_hold_the_sign_that_follows_a_tag(tmp_path):
    path = tmp_path / "openai@home.pt"
    path.touch()
    assert clip_source("RN50", str(path)).pretrained == str(path)
    assert clip_source("ViT-B-32", f"openai@{path}").pretrained == str(path)


def test_a_folder_gives_the_checkpoint_that_open_clip_prefers(tmp_path):
    with pytest.raises(EmbedderError, match="holds no checkpoint"):
        checkpoint_in(tmp_path)
    for name in ("b.bin", "notes.txt"):
        (tmp_path / name).touch()
    assert checkpoint_in(tmp_path).name == "b.bin"
    (tmp_path / "a.bin").touch()
    with pytest.raises(EmbedderError, match=r"several checkpoints \(a.bin, b.bin\); leave one"):
        checkpoint_in(tmp_path)
    for name in ("open_clip_pytorch_model.bin", "open_clip_model.safetensors"):
        (tmp_path / name).touch()
        assert checkpoint_in(tmp_path).name == name


def test_a_folder_of_files_keeps_its_tokenizer_where_the_model_names_one(tmp_path):
    (tmp_path / "open_clip_model.safetensors").touch()
    named = clip_source("ViT-B-16-SigLIP", str(tmp_path))
    assert named.tokenizer_folder == tmp_path
    assert named.options["image_resize_mode"] == "squash"
    assert clip_source("RN50", str(tmp_path)).tokenizer_folder is None


def test_a_published_folder_must_say_its_preprocessing(tmp_path):
    with pytest.raises(EmbedderError, match=r"no folder with a readable open_clip_config.json"):
        clip_source("local-dir", str(tmp_path / "none"))
    folder = tiny_clips.save_folder(tmp_path / "clip", preprocess=None)
    with pytest.raises(EmbedderError, match="has no preprocess_cfg; add it"):
        clip_source("local-dir", str(folder))
    tiny_clips.save_folder(folder, preprocess={"mean": [0.5] * 3})
    with pytest.raises(EmbedderError, match="has no std; add what the weights were trained with"):
        clip_source("local-dir", str(folder))
    (folder / "open_clip_config.json").write_text(json.dumps(tiny_clips.CONFIG))
    with pytest.raises(EmbedderError, match="has no model_cfg"):
        clip_source("local-dir", str(folder))
    tiny_clips.save_folder(folder)
    (folder / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(EmbedderError, match="holds no checkpoint"):
        clip_source("local-dir", str(folder))


def test_a_repository_that_cannot_be_fetched_says_what_to_give(monkeypatch):
    def refuse(**_asked):
        raise OSError("no network")

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", refuse)
    with pytest.raises(EmbedderError, match=r"no network.*open_clip:local-dir:FOLDER"):
        clip_source("hf-hub", "someone/clip")
