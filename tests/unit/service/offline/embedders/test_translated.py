"""Networks by onnxruntime: torch's values, one translation, and torch where it must be."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from textcam_service.offline.embedders import translated as module
from textcam_service.offline.embedders.translated import TranslatedNetwork
from torch import nn


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "textcam"


@pytest.fixture
def translations(monkeypatch):
    """Names of what was translated."""
    found, translate = [], module.to_onnx

    def counted(name, *arguments):
        found.append(name)
        return translate(name, *arguments)

    monkeypatch.setattr(module, "to_onnx", counted)
    return found


def example():
    return np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)


def convolution(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()


def by_torch(network, images):
    with torch.inference_mode():
        return network(torch.from_numpy(images)).numpy()


def test_values_are_torchs_for_any_number_of_images(translations):
    network = convolution()
    found = TranslatedNetwork("it", "digest", network, example)
    for count in (1, 2, 7):
        images = np.random.default_rng(count).standard_normal((count, 3, 8, 8)).astype(np.float32)
        np.testing.assert_allclose(found(images), by_torch(network, images), atol=1e-5)
    assert translations == ["it"]


def test_another_process_reads_the_graph_and_other_weights_have_their_own(translations):
    first, images = convolution(), example()
    TranslatedNetwork("one", ["weights", 1], first, example)(images)
    again = TranslatedNetwork("two", ["weights", 1], first, example)(images)
    np.testing.assert_allclose(again, by_torch(first, images), atol=1e-5)
    assert translations == ["one"]
    other = convolution(seed=1)
    found = TranslatedNetwork("three", ["weights", 2], other, example)(images)
    np.testing.assert_allclose(found, by_torch(other, images), atol=1e-5)
    assert translations == ["one", "three"]


def test_a_damaged_graph_is_told_and_translated_again(translations, folder, caplog):
    network, images = convolution(), example()
    TranslatedNetwork("it", "digest", network, example)(images)
    (path,) = folder.glob("network-*/network.safetensors")
    path.write_bytes(path.read_bytes()[:-9] + b"?" * 9)
    found = TranslatedNetwork("it", "digest", network, example)(images)
    np.testing.assert_allclose(found, by_torch(network, images), atol=1e-5)
    assert translations == ["it", "it"]
    assert "made anew" in caplog.text


def test_several_first_calls_translate_once(translations):
    network, images = convolution(), example()
    found = TranslatedNetwork("it", "digest", network, example)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(found, [images] * 8))
    assert translations == ["it"]
    for result in results:
        np.testing.assert_array_equal(result, results[0])


class Branching(nn.Module):
    """A network whose way depends on the values, which no graph of ONNX's exporter takes."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images):
        return images * self.scale if float(images.sum()) > 0 else images - self.scale


def test_what_cannot_be_translated_stays_with_torch_and_says_so(caplog):
    network, images = Branching().eval(), example()
    with caplog.at_level(logging.WARNING):
        found = TranslatedNetwork("the tower", "digest", network, example)
        np.testing.assert_array_equal(found(images), by_torch(network, images))
        found(images)
    assert [
        record.message for record in caplog.records if "stays with torch" in record.message
    ] == [record.message for record in caplog.records]
    assert len(caplog.records) == 1
    assert "the tower" in caplog.text


def test_a_translation_that_computes_something_else_is_not_used(monkeypatch, folder, caplog):
    network, images = convolution(), example()
    translate = module.to_onnx

    def of_others(name, _network, *arguments):
        return translate(name, convolution(seed=9), *arguments)

    monkeypatch.setattr(module, "to_onnx", of_others)
    found = TranslatedNetwork("it", "digest", network, example)(images)
    np.testing.assert_allclose(found, by_torch(network, images), atol=1e-6)
    assert "differs from torch" in caplog.text
    assert not list(folder.glob("network-*"))
