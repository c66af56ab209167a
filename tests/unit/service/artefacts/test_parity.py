import numpy as np
import pytest
from textcam_service.artefacts.files import write_artefact
from textcam_service.artefacts.parity import (
    NAME,
    ParityReport,
    read_parity,
    require_parity,
    write_parity,
)
from textcam_service.core.agreement import AgreementThresholds, ExplanationAgreement
from textcam_service.errors import ArtefactCorrupt, ParityMissed

FIGURES = ExplanationAgreement(60, 0.99, 0.98, 0.9, 0.97, 0.02)
FINGERPRINT = np.arange(4, dtype=np.float32)


def report(figures=FIGURES):
    return ParityReport(
        figures, AgreementThresholds(), "bank", "words", {"float_layers": 6}, FINGERPRINT
    )


def test_a_report_is_read_as_it_was_written(tmp_path):
    digest = write_parity(tmp_path, report())
    found = read_parity(tmp_path, digest)
    assert (found.figures, found.thresholds) == (FIGURES, AgreementThresholds())
    assert found.judged_with == ("bank", "words")
    np.testing.assert_array_equal(found.fingerprint, FINGERPRINT)


def test_a_report_with_other_names_of_its_fields_is_read(tmp_path):
    content = {
        "figures": {
            "images": 60,
            "top1": 0.99,
            "correlation": 0.98,
            "correlation_p5": 0.9,
            "first_phrase": 0.97,
        },
        "thresholds": {"top1": 0.98, "correlation": 0.97, "first_phrase": 0.95},
        "bank_digest": "bank",
        "vocabulary_digest": "words",
        "quantisation": {"images": 8},
    }
    digest = write_artefact(tmp_path, NAME, {"fingerprint": FINGERPRINT}, content)
    found = read_parity(tmp_path, digest)
    assert found.figures == ExplanationAgreement(60, 0.99, 0.98, 0.9, 0.97)
    assert found.thresholds == AgreementThresholds()
    assert found.quantization == {"images": 8}


def test_a_report_below_its_thresholds_or_of_another_shape_is_refused(tmp_path):
    digest = write_parity(tmp_path, report(ExplanationAgreement(60, 0.9, 1, 1, 1, 0)))
    with pytest.raises(ArtefactCorrupt, match=r"states that it failed: same top-1 0\.9000"):
        read_parity(tmp_path, digest)
    digest = write_artefact(tmp_path, NAME, {"fingerprint": FINGERPRINT}, {"figures": 3})
    with pytest.raises(ArtefactCorrupt, match="lacks a field"):
        read_parity(tmp_path, digest)


def test_a_device_below_the_thresholds_is_refused_by_name():
    require_parity(FIGURES, AgreementThresholds(), "TensorRT")
    with pytest.raises(ParityMissed, match=r"TensorRT does not explain.*first phrase 0\.9700"):
        require_parity(FIGURES, AgreementThresholds(first_phrase=0.99), "TensorRT")
