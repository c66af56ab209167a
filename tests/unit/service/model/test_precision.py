"""bfloat16 serves behind a record of this machine alone, and "auto" falls back without one."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from small_models import add_supports, write_model
from textcam_service.artefacts.bank import read_bank
from textcam_service.core.agreement import AgreementThresholds, ExplanationAgreement
from textcam_service.errors import BundleMismatch, InvalidSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.model.precision import keep_record, settled
from textcam_service.runtime import openvino_loading, openvino_session
from textcam_service.runtime.providers import DeviceOptions, engines_of

GOOD, BAD = ExplanationAgreement(60, 1, 1, 1, 1, 0), ExplanationAgreement(60, 0.5, 1, 1, 1, 0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model on a machine that has the units; the records' way is the same without them."""
    for module in (openvino_loading, openvino_session):
        monkeypatch.setattr(module, "has_bf16", lambda: True)
    return write_model(tmp_path, 3)


@pytest.fixture
def options(folder):
    return DeviceOptions("bf16", str(folder / "engines"))


def load(folder, options, providers=("openvino",)):
    return ModelBundle.load(
        "m", folder / "backbone", folder / "bank", providers=providers, device=options
    )


def compare(folder, options, figures=GOOD):
    """What `textcam parity` does after it has compared."""
    bundle = load(folder, replace(options, needs_record=False))
    keep_record(bundle.backbone, bundle.artefact, options, figures, AgreementThresholds())
    return bundle


def test_bf16_serves_after_a_comparison_alone_and_its_figures_are_in_the_provenance(
    folder, options
):
    with pytest.raises(
        InvalidSettings, match=r"bf16 in OpenVINO was not compared.*run `textcam parity"
    ):
        load(folder, options)
    compare(folder, options)
    bundle = load(folder, options)
    assert bundle.backbone.precision == bundle.parameters()["precision"] == "bfloat16"
    assert bundle.parameters()["parity"].startswith("same top-1 1.0000 (at least 0.98)")
    exact = load(folder, replace(options, precision="fp32"))
    assert "parity" not in exact.parameters()


def test_a_comparison_that_fails_ends_an_earlier_records_use(folder, options):
    compare(folder, options)
    compare(folder, options, BAD)
    with pytest.raises(InvalidSettings, match="was not compared"):
        load(folder, options)


def test_bf16_without_a_folder_for_records_is_refused(folder):
    with pytest.raises(InvalidSettings, match="bf16 in OpenVINO needs engine_cache"):
        load(folder, DeviceOptions("bf16"))


def test_a_record_holds_for_one_processor_and_version(folder, options, monkeypatch):
    compare(folder, options)
    for name in ("processor", "version"):
        with monkeypatch.context() as changed:
            changed.setattr(openvino_session, name, lambda: "another")
            with pytest.raises(InvalidSettings, match=r"was compared under.*another"):
                load(folder, options)
    load(folder, options)


def test_a_record_holds_for_one_bank_and_one_graph(folder, options, tmp_path):
    compare(folder, options)
    other = write_model(tmp_path / "other", 4)
    with pytest.raises(InvalidSettings, match="was not compared"):
        load(other, options)
    load(folder, options)
    add_supports(folder)  # another bank for the same network
    with pytest.raises(InvalidSettings, match="was not compared"):
        load(folder, options)


def test_a_bf16_network_that_computes_otherwise_than_when_it_was_compared_is_refused(
    folder, options
):
    bundle = load(folder, replace(options, needs_record=False))
    bundle.backbone.fingerprint = lambda: 2 * type(bundle.backbone).fingerprint(bundle.backbone)
    keep_record(bundle.backbone, bundle.artefact, options, GOOD, AgreementThresholds())
    with pytest.raises(BundleMismatch, match=r"run `textcam parity` again"):
        load(folder, options)


def test_auto_is_bf16_where_it_was_compared_and_else_fp32_with_the_reason(folder, options, caplog):
    caplog.set_level(logging.INFO)
    auto = replace(options, precision="auto")
    first = load(folder, auto)
    assert (first.backbone.precision, first.backbone.execution_provider) == ("float32", "OpenVINO")
    assert "since bf16 in OpenVINO was not compared" in caplog.text
    usual = load(folder, auto, providers=())
    assert usual.backbone.execution_provider != "OpenVINO"
    compare(folder, options)
    for providers in (("openvino",), ()):
        bundle = load(folder, auto, providers)
        assert bundle.backbone.execution_provider == "OpenVINO"
        assert bundle.backbone.precision == "bfloat16"
    assert load(folder, auto, ("cpu",)).backbone.precision == "float32"
    assert "since CPUExecutionProvider computes it" in caplog.text


def test_auto_on_a_processor_without_units_is_fp32(folder, options, monkeypatch, caplog):
    compare(folder, options)
    monkeypatch.setattr(openvino_session, "has_bf16", lambda: False)
    caplog.set_level(logging.INFO)
    auto = replace(options, precision="auto")
    found = settled(("openvino",), auto, folder / "backbone", read_bank(folder / "bank"))
    assert found == (("openvino",), replace(options, precision="fp32"))
    assert "has no units for bf16" in caplog.text


def test_records_lie_beside_the_networks_that_they_are_about(folder, options):
    bundle = compare(folder, options)
    found = Path(engines_of(bundle.backbone.graph_digest, options))
    assert {path.suffix for path in found.glob("bf16-*")} == {".json", ".safetensors"}
    assert list(found.glob("*.blob"))
