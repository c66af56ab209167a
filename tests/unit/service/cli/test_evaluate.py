"""`textcam evaluate`: what the options make of a run, and what is refused."""

import pytest
from commands import run
from small_models import write_model
from textcam_service.offline.evaluation import report as report_module
from textcam_service.offline.evaluation import run as run_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), 0)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The arguments of the run, which is not made."""
    kept = {}

    def evaluate(bundle, truth, **options):
        kept.update(options, bundle=bundle, truth=truth)
        return "the report"

    monkeypatch.setattr(run_module, "evaluate", evaluate)
    monkeypatch.setattr(report_module, "as_text", lambda report: f"all of {report}")
    monkeypatch.setattr(report_module, "write_report", lambda _, output: [output / "report.json"])
    return kept


def words(folder, *more):
    given = ("--backbone", folder / "backbone", "--bank", folder / "bank")
    return ("evaluate", *given, *more)


def test_scenes_are_rendered_and_the_reports_files_are_named(folder, asked, tmp_path):
    code, said = run(*words(folder, "--count", 10, "--seed", 7, "--output", tmp_path))
    assert code == 0, said
    assert "all of the report" in said
    assert str(tmp_path / "report.json") in said
    assert asked["bundle"].name == "evaluated"
    assert (asked["embedder"], asked["biased"]) == (None, None)


def test_the_method_is_for_the_model_and_for_its_twin(folder, asked, tmp_path):
    twin = ("--biased-backbone", folder / "backbone", "--biased-bank", folder / "bank")
    code, said = run(*words(folder, "--count", 10, "--method", "grad_cam", *twin))
    assert code == 0, said
    methods = [asked[own].default_method.name for own in ("bundle", "biased")]
    assert methods == ["grad_cam", "grad_cam"]


@pytest.mark.parametrize("half", ["--biased-backbone", "--biased-bank"])
def test_half_a_twin_is_refused(half, folder, asked):
    code, said = run(*words(folder, half, folder))
    assert code == 2
    assert "--biased-backbone and --biased-bank go together" in said
    assert asked == {}
