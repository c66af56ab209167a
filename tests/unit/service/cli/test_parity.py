"""`textcam parity`: figures of a device against the CPU, and its gate."""

import numpy as np
import pytest
from commands import run
from PIL import Image
from small_models import write_model
from textcam_service.core.agreement import ExplanationAgreement
from textcam_service.offline.evaluation import parity as parity_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = write_model(tmp_path_factory.mktemp("model"), 0)
    (made / "images").mkdir()
    for seed in range(50):  # the fewest that are judged by
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(made / "images" / f"{seed}.png")
    return made


def words(folder, *more):
    given = [f"--{name}={folder / name}" for name in ("backbone", "bank", "images")]
    return ("parity", *given, *more)


def test_the_cpu_agrees_with_itself(folder):
    code, said = run(*words(folder, "--providers", "cpu"))
    assert code == 0, said
    assert said.startswith("CPUExecutionProvider, float32: same top-1 1.0000")
    assert "over 50 images" in said


def test_a_device_that_explains_otherwise_is_refused_with_its_figures(folder, monkeypatch):
    figures = ExplanationAgreement(50, 0.5, 0.99, 0.98, 0.99)
    monkeypatch.setattr(parity_module, "compare", lambda *_: figures)
    code, said = run(*words(folder, "--providers", "cpu"))
    assert code == 1
    assert "0.5" in said
    code, said = run(*words(folder, "--providers", "cpu", "--min-top1", "0.5"))
    assert code == 0, said


def test_a_device_must_be_named(folder):
    code, said = run(*words(folder))
    assert code == 2
    assert "Missing option '--providers'" in said
