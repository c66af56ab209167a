"""The files of a bundle."""

from textcam_service.artefacts.bank import FILES
from textcam_service.artefacts.bundle import bundle_files


def test_a_bundle_is_the_backbone_s_visible_files_and_the_bank_s_own(tmp_path):
    backbone, bank = tmp_path / "b", tmp_path / "k"
    (backbone / "folder").mkdir(parents=True)
    bank.mkdir()
    for name in ("backbone.onnx", "backbone.json", ".DS_Store"):
        (backbone / name).touch()
    (bank / "probing.json").touch()  # serves nothing
    files = bundle_files(backbone, bank)
    assert set(files) == {
        "backbone/backbone.onnx",
        "backbone/backbone.json",
        *(f"bank/{file}" for file in FILES),
    }
    assert files["backbone/backbone.onnx"] == backbone / "backbone.onnx"
