"""`textcam quantize`: the images of each set, and the settings and thresholds of the run."""

import pytest
from commands import run
from PIL import Image
from small_models import write_model
from textcam_service.offline import quantization


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = write_model(tmp_path_factory.mktemp("model"), 0)
    for name, count in (("images", 6), ("others", 2)):
        (made / name).mkdir()
        for index in range(count):
            Image.new("RGB", (32, 32)).save(made / name / f"{index}.png")
    return made


@pytest.fixture
def asked(monkeypatch):
    """The arguments of the run, which is not made."""
    kept = {}

    def quantize(bundle, chosen, held_out, output, settings, thresholds, **_):
        kept.update(chosen=chosen, held_out=held_out, settings=settings, thresholds=thresholds)
        return "the report"

    monkeypatch.setattr(quantization, "quantize", quantize)
    return kept


def words(folder, *more):
    given = [f"--{name}={folder / name}" for name in ("backbone", "bank", "images")]
    return ("quantize", *given, "--output", folder / "int8", *more)


def test_images_that_do_not_calibrate_are_compared(folder, asked):
    code, said = run(*words(folder, "--calibration", 4))
    assert code == 0, said
    assert said.endswith("int8: the report")
    assert (len(asked["chosen"]), len(asked["held_out"])) == (4, 2)
    assert not set(asked["chosen"]) & set(asked["held_out"])


def test_images_of_another_folder_are_compared_if_it_is_named(folder, asked):
    run(*words(folder, "--calibration", 4, "--held-out", folder / "others"))
    assert {path.parent.name for path in asked["held_out"]} == {"others"}


def test_settings_and_thresholds_reach_the_run(folder, asked):
    options = ("--float-layers", 2, "--reduce-range", "--min-top1", 0.5, "--min-correlation", 0.25)
    code, said = run(*words(folder, *options, "--min-first-phrase", 0.75))
    assert code == 0, said
    assert asked["settings"] == quantization.QuantizationSettings(2, True)
    found = asked["thresholds"]
    assert (found.top1, found.map_correlation, found.first_phrase) == (0.5, 0.25, 0.75)
