"""Results as outputs of the Open Inference Protocol, row by row."""

from types import SimpleNamespace

import numpy as np
import pytest
from small_results import job, result
from textcam.oip import open_inference_pb2 as oip
from textcam_service.core.methods import METHODS
from textcam_service.errors import ResponseTooLarge
from textcam_service.serving.engine.cancellation import CancellationToken
from textcam_service.serving.grpc.oip.outputs import (
    BatchOutputs,
    check_bytes,
    least_bytes,
    output_specs,
    write_response,
)

TOKEN = CancellationToken(None)
BUNDLE = SimpleNamespace(
    name="m",
    version="3",
    class_names=("bird", "cat", "dog"),
    backbone=SimpleNamespace(
        manifest=SimpleNamespace(map_height=2, map_width=3, weights_digest="sha256:b")
    ),
    artefact=SimpleNamespace(bank_digest="sha256:c", vocabulary_digest="sha256:v"),
)
SPECS = output_specs(BUNDLE, 3)


def outputs(*names, count=2, index=1):
    batch = BatchOutputs(names or tuple(SPECS), SPECS, count)
    batch.encoder(index).encode(result(), TOKEN)
    return batch


def test_every_output_has_its_type_and_shape_and_is_written_in_its_own_row():
    batch = outputs()
    assert tuple(batch.arrays) == tuple(SPECS)
    for name, array in batch.arrays.items():
        assert array.shape == (2, *SPECS[name][1]), name
        assert not array[0].any() if array.dtype != object else not any(np.ravel(array[0])), name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("logits", [1, 3, 2]),
        ("class_index", 1),
        ("class_name", b"cat"),
        ("phrases", [b"whiskers", b"sofa", b""]),
        ("evidence", [1.5, 0.75, 0]),
        ("effects", [1.75, 1, 0]),
        ("rest_evidence", 0.5),
        ("bias", 0.25),
        ("gap", 0),
        ("sentence", b"a cat"),
        ("saliency_map", [[0, 1, 2], [3, 4, 5]]),
    ],
)
def test_an_output_holds_its_part_of_the_result(name, expected):
    np.testing.assert_array_equal(outputs(name).arrays[name][1], np.array(expected))


def test_probabilities_are_of_all_classes_and_of_phrases_nan_without_calibration():
    batch = outputs("probabilities", "phrase_probabilities")
    assert batch.arrays["probabilities"][1].sum() == pytest.approx(1)
    assert batch.arrays["probabilities"][1].argmax() == 1
    np.testing.assert_allclose(batch.arrays["phrase_probabilities"][1], [0.9, np.nan, 0], rtol=1e-6)


def test_maps_of_groups_stand_in_the_order_of_phrases():
    batch = outputs("group_maps", "rest_map")
    maps = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(batch.arrays["group_maps"][1], [maps * 0.2, maps * 0.3, maps * 0])
    np.testing.assert_allclose(batch.arrays["rest_map"][1], maps * 0.1)


def response(batch, *, raw):
    request = oip.ModelInferRequest(id="seven", raw_input_contents=[b"x"] if raw else [])
    return write_response(request, batch, BUNDLE, METHODS["cam"])


def test_a_response_takes_the_form_of_its_request():
    batch = outputs("logits", "phrases", "class_index")
    typed, raw = response(batch, raw=False), response(batch, raw=True)
    assert [list(own.shape) for own in typed.outputs] == [[2, 3], [2, 3], [2]]
    assert typed.outputs[0].contents.fp32_contents[3:] == [1, 3, 2]
    assert typed.outputs[1].contents.bytes_contents[3:] == [b"whiskers", b"sofa", b""]
    assert typed.outputs[2].contents.int64_contents == [0, 1]
    assert np.frombuffer(raw.raw_output_contents[0], "<f4")[3:].tolist() == [1, 3, 2]
    assert raw.raw_output_contents[1].endswith(
        b"\x08\0\0\0whiskers" + b"\x04\0\0\0sofa" + b"\0\0\0\0"
    )
    assert np.frombuffer(raw.raw_output_contents[2], "<i8").tolist() == [0, 1]


def test_a_response_names_what_made_it():
    made = response(outputs("bias"), raw=True)
    assert (made.model_name, made.model_version, made.id) == ("m", "3", "seven")
    assert {name: own.string_param for name, own in made.parameters.items()} == {
        "backbone_digest": "sha256:b",
        "bank_digest": "sha256:c",
        "vocabulary_digest": "sha256:v",
        "method": "cam",
    }


def test_numbers_alone_bound_a_response_before_the_work():
    assert least_bytes(SPECS, ("logits", "sentence", "saliency_map"), 5) == 5 * 4 * (3 + 6)
    check_bytes(100, 2, 100)
    with pytest.raises(ResponseTooLarge, match=r"2 image\(s\) take 101 bytes.*fewer images"):
        check_bytes(101, 2, 100)


def test_an_image_of_any_size_is_admitted():
    own = job()
    assert BatchOutputs((), SPECS, 1).encoder(0).check(own, result().image, 10**9) is None
