"""`textcam export`: options that are refused."""

import json
import re

import pytest
from commands import run


def test_an_unknown_network_is_told_with_all_that_there_are(tmp_path):
    code, said = run("export", "--model", "resnet50", "--output", tmp_path / "b")
    assert code == 1
    for kind in ("torchvision:", "timm:", "import:", "onnx:", "scenes:classifier", "scenes:biased"):
        assert kind in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layout", "NHWC"], "--layout is for ONNX models; leave it out"),
        (["--channel-order", "BGR"], "--channel-order is for ONNX models; leave it out"),
        (["--logits-output", "a"], "--logits-output is for ONNX models; leave it out"),
        (["--mean", "123.68"], "'123.68' is not on the scale of 0..1; divide levels of 0..255"),
        (["--mean", "0.5,0.5"], "'0.5,0.5' is neither a number nor three of red, green and blue"),
        (["--std", "1/0"], "'1/0' is neither a number nor three"),
        (["--std", "nan"], "'nan' is neither a number nor three"),
        (["--std", "0"], "a deviation is above 0, such as 1 or 0.229"),
        (["--crop-mode", "random"], "'random' is not one of 'center', 'squash', 'border'"),
        (["--interpolation", "nearest"], "is not one of 'bilinear', 'bicubic', 'lanczos'"),
        (["--classes", "absent.txt"], "with a class name per line, or imagenet-1k"),
        (["--model", "onnx:m.onnx", "--weights", "none"], "--weights is for networks of torch"),
        (["--model", "onnx:m.onnx", "--model-option", "a=1"], "--model-option is for networks of"),
        (["--model-option", "img_size"], "'img_size' is not NAME=VALUE, such as"),
        (["--model", "onnx:m.onnx", "--layer", "a"], "--layer is for networks of torch"),
        (["--model", "onnx:m.onnx", "--input-size", "-5"], "'-5' is neither a size in pixels"),
        (["--model", "onnx:m.onnx", "--input-size", "6,4,3"], "such as 192,256"),
    ],
    ids=" ".join,
)
def test_options_that_would_say_nothing_are_refused(words, said, tmp_path):
    code, told = run("export", *words, "--output", tmp_path / "b")
    assert code == 2
    assert said in " ".join(told.split())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("ä\nb\n".encode("latin-1"), "is not UTF-8"),
        (b"a\n\nb\n", "line 2 of .* names no class"),
    ],
)
def test_a_file_of_classes_that_cannot_be_read_is_told(content, said, tmp_path):
    (tmp_path / "names.txt").write_bytes(content)
    options = ["--classes", tmp_path / "names.txt", "--output", tmp_path / "b"]
    code, told = run("export", "--model", "onnx:m.onnx", *options)
    assert code == 2
    assert re.search(said, " ".join(told.replace("│", " ").split()))


@pytest.mark.parametrize(
    ("written", "given", "first", "last"),
    [
        ("".join(f"bird {index}\n" for index in range(1000)), "names.txt", "bird 0", "bird 999"),
        ("", "imagenet-1k", "tench", "toilet tissue"),
    ],
)
def test_classes_of_a_torch_network_are_named_by_a_file_or_as_imagenets(
    written, given, first, last, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text(written)
    network = ["--model", "timm:test_resnet", "--weights", "none"]
    code, told = run("export", *network, "--classes", given, "--output", "b")
    assert code == 0
    assert "numbered" not in told
    names = json.loads((tmp_path / "b" / "backbone.json").read_text())["class_names"]
    assert (len(names), names[0], names[-1]) == (1000, first, last)


def test_a_network_is_made_multi_label(tmp_path):
    options = ["--weights", "none", "--multi-label", "--output", tmp_path / "b"]
    code, told = run("export", "--model", "timm:test_resnet", *options)
    assert code == 0
    assert "1000 classes that do not exclude each other (multi-label)" in " ".join(told.split())
    assert json.loads((tmp_path / "b" / "backbone.json").read_text())["multi_label"] is True
