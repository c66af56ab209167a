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
    """The bundle "other" sees another class in ten images, and another phrase in one of two."""

    def observe(bundle, cases):
        for case in cases:
            number = int(case.name[:2])
            turned = bundle == "other" and number < 10
            yield SimpleNamespace(
                number=number, prediction=SimpleNamespace(class_index=int(turned))
            )

    def explain_case(bundle, seen, count):
        assert count == 1
        odd = bundle == "other" and seen.number % 2
        return rationale("ice" if odd else "fur", -MAP if odd else MAP)

    monkeypatch.setattr(parity, "observe", observe)
    monkeypatch.setattr(parity, "explain_case", explain_case)


def test_agreement_is_counted_over_the_images_that_can_be_read(pictures, made_up):
    done = []
    found = parity.compare("own", "other", pictures, done.append)
    assert found == ExplanationAgreement(
        images=59,
        top1=pytest.approx(49 / 59),
        map_correlation=pytest.approx((29 - 30) / 59),
        map_correlation_p5=pytest.approx(-1),
        first_phrase=pytest.approx(29 / 59),
        share_difference=pytest.approx(0.5 * 30 / 59),
    )
    assert done == [16, 16, 16, 12]


def test_too_few_images_are_refused(pictures, made_up):
    with pytest.raises(ProbingSetError, match="49 held-out images could be read"):
        parity.compare("own", "other", pictures[:50])
