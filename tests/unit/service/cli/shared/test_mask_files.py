"""`textcam explain --masks`: what is written is what the SDK cuts."""

import json

import numpy as np
from click.testing import CliRunner
from PIL import Image
from textcam_client import TopK, bounding_boxes, decode_rle, pseudo_labels
from textcam_client.testing import serve_in_memory
from textcam_service.cli import main
from textcam_service.cli.shared.mask_files import boxes


def test_masks_are_written_as_label_map_contours_and_json(photo, tmp_path):
    with serve_in_memory() as server:
        arguments = ["explain", str(photo), "--server", server.address, "--top-k", "2"]
        done = CliRunner().invoke(main, [*arguments, "--masks", str(tmp_path / "masks")])
        assert done.exit_code == 0, done.output
        with server.client() as client:
            answer = client.explain(photo, target=TopK(2))
    expected = pseudo_labels(answer.explanations)
    folder = tmp_path / "masks"
    assert {path.name for path in folder.iterdir()} == {
        "photo.png",
        "photo-contours.png",
        "photo.json",
    }
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "photo.png")), expected)
    assert Image.open(folder / "photo-contours.png").size == (64, 48)
    written = json.loads((folder / "photo.json").read_text())
    assert written["image"] == str(photo)
    assert [entry["label"] for entry in written["labels"]] == [1, 2]
    for entry, target in zip(written["labels"], answer.explanations, strict=True):
        mask = expected == entry["label"]
        assert entry["class_name"] == target.target.class_name
        assert entry["area"] == mask.sum()
        # 48 x 64 pixels: a thousandth of them is 4, rounded up
        assert entry["boxes"] == [list(box) for box in bounding_boxes(mask, min_area=4)]
        np.testing.assert_array_equal(decode_rle(entry["rle"]), mask)


def test_specks_beside_an_object_get_no_box():
    mask = np.zeros((100, 120), bool)
    mask[::25, ::25] = True  # single pixels
    mask[60:63, 3:6] = True  # nine
    specks = boxes(mask)
    assert specks == ((3, 60, 3, 3),)  # the largest, where there is nothing else
    mask[10:40, 30:70] = True
    mask[80:83, 80:84] = True  # twelve: a thousandth of the image
    assert boxes(mask) == ((30, 10, 40, 30), (80, 80, 4, 3))
