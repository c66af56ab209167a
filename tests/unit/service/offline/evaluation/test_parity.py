"""Two bundles explain the same images; what each finds is made up here."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from textcam_service.core.agreement import ExplanationAgreement
from textcam_service.core.types import Phrase, Rationale, SaliencyGroup
from textcam_service.errors import ProbingSetError
from textcam_service.offline.evaluation import parity

MAP = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)


def rationale(text, saliency_map):
    rest = SaliencyGroup(-1, np.zeros(0, np.int64), 1.0, 1.0, 0.0, MAP)
    phrase = Phrase(text, 0, 1.0, 1.0, 1.0)
    return Rationale(0.0, 0.0, 0.0, saliency_map, (phrase,), (), rest)


@pytest.fixture
def pictures(tmp_path):
    for number in range(60):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number:02}.png")
    (tmp_path / "30.png").write_bytes(b"damaged")
    return sorted(tmp_path.iterdir())


@pytest.fixture
def made_up(monkeypatch):
    """The bundle "other" sees another class in ten images, and another phrase in one of two.

    Returns the classes that are explained.
    """
    explained = []

    def observe(bundle, cases):
        for case in cases:
            number = int(case.name[:2])
            turned = bundle.name == "other" and number < 10
            logits = np.array([1.0, 2.0] if turned else [3.0, 0.5])
            yield SimpleNamespace(
                number=number, logits=logits, prediction=SimpleNamespace(class_index=int(turned))
            )

    def explain_case(bundle, seen, count, target=None):
        assert count == 1
        explained.append((target or seen.prediction).class_index)
        odd = bundle.name == "other" and seen.number % 2
        return rationale("ice" if odd else "fur", -MAP if odd else MAP)

    monkeypatch.setattr(parity, "observe", observe)
    monkeypatch.setattr(parity, "explain_case", explain_case)
    monkeypatch.setattr(
        parity, "predict", lambda _, logits, index: SimpleNamespace(class_index=index)
    )
    return explained


def bundles(*, multi_label):
    return [SimpleNamespace(name=name, multi_label=multi_label) for name in ("own", "other")]


def test_agreement_is_counted_over_the_images_that_can_be_read(pictures, made_up):
    done = []
    found = parity.compare(*bundles(multi_label=False), pictures, done.append)
    assert found == ExplanationAgreement(
        images=59,
        top1=pytest.approx(49 / 59),
        map_correlation=pytest.approx((29 - 30) / 59),
        map_correlation_p5=pytest.approx(-1),
        first_phrase=pytest.approx(29 / 59),
        share_difference=pytest.approx(0.5 * 30 / 59),
    )
    assert done == [16, 16, 16, 12]
    assert sum(made_up) == 10


def test_labels_that_both_see_agree_in_any_order_and_both_explain_the_first_models(
    pictures, made_up
):
    """In the ten images both labels have a probability above 0.5 in both models."""
    assert parity.compare(*bundles(multi_label=True), pictures).top1 == 1
    assert len(made_up) == 2 * 59
    assert not any(made_up)


def test_too_few_images_are_refused(pictures, made_up):
    with pytest.raises(ProbingSetError, match="49 held-out images could be read"):
        parity.compare(*bundles(multi_label=False), pictures[:50])
