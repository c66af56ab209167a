"""The Open Inference Protocol by NVIDIA's tritonclient as it comes, and by hand.

tritonclient runs in a process of its own: its stubs claim the protocol's names for themselves.
"""

import json
import subprocess
import sys

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from textcam.oip import open_inference_pb2 as oip
from textcam.oip import open_inference_pb2_grpc
from textcam_client import Client

OUTPUTS = (
    *("logits", "probabilities", "class_index", "class_name", "saliency_map", "phrases"),
    *("evidence", "effects", "phrase_probabilities", "group_maps", "rest_map", "rest_evidence"),
    *("bias", "gap", "sentence"),
)

# As tritonclient's InferRequestedOutput(class_count=2) and set_shared_memory("region", ...) say it.
CLASSIFIED = {"classification": oip.InferParameter(int64_param=2)}
IN_SHARED_MEMORY = {"shared_memory_region": oip.InferParameter(string_param="region")}

TRITON = """
import json, sys
import numpy as np
import tritonclient.grpc as triton

address, *photos = sys.argv[1:]
client = triton.InferenceServerClient(address)
images = np.array([open(photo, "rb").read() for photo in photos], object)
given = triton.InferInput("image", [len(photos)], "BYTES")
given.set_data_from_numpy(images)
found = client.infer("photos", [given], request_id="seven", parameters={"max_phrases": 3})
names = [output.name for output in found.get_response().outputs]
metadata = client.get_model_metadata("photos", as_json=True)
refused = {}
for name, ask in {
    "model": lambda: client.infer("cats", [given]),
    "ready": lambda: client.is_model_ready("cats"),
    "version": lambda: client.infer("photos", [given], model_version="9"),
    "output": lambda: client.infer(
        "photos", [given], outputs=[triton.InferRequestedOutput("boxes")]
    ),
}.items():
    try:
        refused[name] = str(ask())
    except triton.InferenceServerException as error:
        refused[name] = [error.status(), error.message()]
some = client.infer("photos", [given], outputs=[triton.InferRequestedOutput("logits")])
print(json.dumps({
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model ready": client.is_model_ready("photos"),
    "server": client.get_server_metadata(as_json=True)["name"],
    "metadata": metadata,
    "id": found.get_response().id,
    "shapes": {name: list(found.as_numpy(name).shape) for name in names},
    "class_name": [text.decode() for text in found.as_numpy("class_name")],
    "phrases": [[text.decode() for text in row] for row in found.as_numpy("phrases")],
    "sums": (
        found.as_numpy("evidence").sum(1) + found.as_numpy("rest_evidence")
        + found.as_numpy("bias") + found.as_numpy("gap")
    ).tolist(),
    "tops": found.as_numpy("logits").max(1).tolist(),
    "map": found.as_numpy("saliency_map")[1].tolist(),
    "map by groups": (found.as_numpy("group_maps").sum(1) + found.as_numpy("rest_map"))[1].tolist(),
    "refused": refused,
    "some": [output.name for output in some.get_response().outputs],
}))
"""


@pytest.fixture(scope="module")
def by_triton(server, photos):
    command = [sys.executable, "-c", TRITON, server.address, *map(str, photos[:3])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def own(server, photos):
    with Client(server.address, timeout=60) as client:
        return [client.explain(photo, max_phrases=3) for photo in photos[:3]]


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(server.address) as channel:
        yield open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)


def test_the_server_and_its_model_say_that_they_are_ready(by_triton):
    assert (by_triton["live"], by_triton["ready"], by_triton["model ready"]) == (True, True, True)
    assert by_triton["server"] == "textcam"


def test_metadata_describes_what_infer_answers(by_triton):
    described = {output["name"]: output for output in by_triton["metadata"]["outputs"]}
    assert set(described) == set(by_triton["shapes"])
    for name, shape in by_triton["shapes"].items():
        stated = [int(extent) for extent in described[name]["shape"]]
        assert len(stated) == len(shape)
        assert all(extent in (-1, found) for extent, found in zip(stated, shape, strict=True))
    assert [tensor["name"] for tensor in by_triton["metadata"]["inputs"]] == ["image", "pixels"]


def test_a_batch_is_answered_as_the_own_contract_answers_its_images(by_triton, own):
    assert by_triton["id"] == "seven"
    for place, explanation in enumerate(own):
        assert by_triton["class_name"][place] == explanation.target.class_name
        words = [phrase.text for phrase in explanation.phrases]
        assert by_triton["phrases"][place] == words + [""] * (3 - len(words))
    np.testing.assert_allclose(by_triton["map"], own[1].saliency_map, atol=1e-3)
    np.testing.assert_allclose(by_triton["map by groups"], by_triton["map"], atol=1e-4)
    np.testing.assert_allclose(by_triton["sums"], by_triton["tops"], rtol=1e-4)


def test_only_the_outputs_that_were_asked_for_come(by_triton):
    assert by_triton["some"] == ["logits"]


def test_what_is_not_served_is_not_found_and_what_is_wrong_is_invalid(by_triton):
    refused = by_triton["refused"]
    codes = {name: status for name, (status, _) in refused.items()}
    assert codes == {
        "model": "StatusCode.NOT_FOUND",
        "ready": "StatusCode.NOT_FOUND",
        "version": "StatusCode.NOT_FOUND",
        "output": "StatusCode.INVALID_ARGUMENT",
    }
    assert "there is no output 'boxes', only logits" in refused["output"][1]


def tensor(datatype, shape, name="image", **contents):
    return oip.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape, contents=oip.InferTensorContents(**contents)
    )


def test_typed_contents_are_answered_in_typed_contents(stub, photos, by_triton):
    given = tensor("BYTES", [1], bytes_contents=[photos[0].read_bytes()])
    answer = stub.ModelInfer(oip.ModelInferRequest(inputs=[given]))
    found = {output.name: output.contents for output in answer.outputs}
    assert not answer.raw_output_contents
    assert found["class_name"].bytes_contents[0].decode() == by_triton["class_name"][0]
    assert max(found["logits"].fp32_contents) == pytest.approx(by_triton["tops"][0], rel=1e-4)
    assert answer.parameters["method"].string_param == "cam"


def outputs(stub, photos, *names):
    """Shape and contents of the outputs that two photographs get, by name."""
    files = [photo.read_bytes() for photo in photos[:2]]
    wanted = oip.ModelInferRequest.InferRequestedOutputTensor
    request = oip.ModelInferRequest(
        inputs=[tensor("BYTES", [2], bytes_contents=files)],
        outputs=[wanted(name=name) for name in names],
    )
    return {
        output.name: (
            list(output.shape),
            [list(values) for _, values in output.contents.ListFields()],
        )
        for output in stub.ModelInfer(request).outputs
    }


@pytest.fixture(scope="module")
def in_all(stub, photos):
    return outputs(stub, photos)


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_by_itself_is_what_it_is_among_all(stub, photos, in_all, name):
    assert tuple(in_all) == OUTPUTS
    (shape, (values,)), (shape_in_all, (values_in_all,)) = (
        found[name] for found in (outputs(stub, photos, name), in_all)
    )
    assert shape == shape_in_all
    if isinstance(values[0], bytes):
        assert values == values_in_all
    else:
        np.testing.assert_allclose(values, values_in_all, rtol=1e-4, atol=1e-4)
    assert any(values) or name == "gap"  # 0 for a head that is linear


def test_pixels_a_class_and_a_method_are_taken(stub):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
    request = oip.ModelInferRequest(
        inputs=[
            oip.ModelInferRequest.InferInputTensor(
                name="pixels", datatype="UINT8", shape=pixels.shape
            )
        ],
        raw_input_contents=[pixels.tobytes()],
    )
    request.parameters["class"].int64_param = 7
    request.parameters["method"].string_param = "hires_cam"
    answer = stub.ModelInfer(request)
    at = [output.name for output in answer.outputs].index("class_index")
    assert np.frombuffer(answer.raw_output_contents[at], "<i8").tolist() == [7, 7]
    assert answer.parameters["method"].string_param == "hires_cam"


@pytest.mark.parametrize(
    ("request_of", "words", "field"),
    [
        (oip.ModelInferRequest, "the one input is 'image'", "inputs"),
        (
            lambda: oip.ModelInferRequest(inputs=[tensor("FP32", [1])]),
            "'image' is of type BYTES, not 'FP32'",
            "inputs[0].datatype",
        ),
        (
            lambda: oip.ModelInferRequest(inputs=[tensor("BYTES", [])]),
            "holds nothing",
            "inputs[0].shape",
        ),
        (
            lambda: oip.ModelInferRequest(inputs=[tensor("BYTES", [2], bytes_contents=[b"x"])]),
            "takes 2 elements, but there are 1",
            "inputs[0].shape",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[tensor("BYTES", [1])], raw_input_contents=[b"\\9\0\0\0x"]
            ),
            "these end early",
            "raw_input_contents",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[tensor("BYTES", [1])], raw_input_contents=[b"\1"]
            ),
            "these end early",
            "raw_input_contents",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[tensor("BYTES", [1])], raw_input_contents=[b""] * 2
            ),
            "1 inputs, but 2 raw contents",
            "raw_input_contents",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[tensor("UINT8", [1, 1, 3], "pixels", uint_contents=[1, 2, 256])]
            ),
            "at most 255",
            "inputs[0].contents",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[tensor("UINT8", [3], "pixels", uint_contents=[1, 2, 3])]
            ),
            r"\[n, h, w, 3\] or \[h, w, 3\], not \[3\]",
            "inputs[0].shape",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[tensor("BYTES", [1], bytes_contents=[b"no picture"])]
            ),
            "image 0 of 1: the bytes are not a JPEG",
            "encoded",
        ),
        (
            lambda: oip.ModelInferRequest(parameters={"beam": oip.InferParameter(int64_param=4)}),
            "the parameter 'beam' is not supported",
            "parameters",
        ),
        (
            lambda: oip.ModelInferRequest(
                parameters={"method": oip.InferParameter(string_param="x")}
            ),
            "there is no CAM method 'x'",
            "parameters",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[tensor("UINT8", [1, 1, 3], uint_contents=[1] * 3)]
            ),
            "'image' is of type BYTES, not 'UINT8'",
            "inputs[0].datatype",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[tensor("BYTES", [1] * 100, bytes_contents=[b"x"])]
            ),
            "at most 4 dimensions, not 100",
            "inputs[0].shape",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[tensor("UINT8", [1, 1, 3], "pixels", uint_contents=[1, 2, 3])],
                raw_input_contents=[b"abc"],
            ),
            "the contents of 'pixels' are there twice",
            "inputs[0].contents",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[tensor("BYTES", [1])], raw_input_contents=[b"\0\0\0\0" * 9]
            ),
            "takes 1 elements, but there are more",
            "inputs[0].shape",
        ),
        (
            lambda: oip.ModelInferRequest(
                outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name="gap")] * 2
            ),
            "the output 'gap' is asked for twice",
            "outputs[1].name",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[
                    tensor("UINT8", [1, 1, 3], "pixels", uint_contents=[1] * 3, fp32_contents=[1])
                ]
            ),
            "the contents of 'pixels' stand in uint_contents; leave out fp32_contents",
            "inputs[0].contents",
        ),
        (
            lambda: oip.ModelInferRequest(id="x" * 129),
            "at most 128 characters, not 129",
            "id",
        ),
        (
            lambda: oip.ModelInferRequest(
                inputs=[
                    oip.ModelInferRequest.InferInputTensor(
                        name="image", datatype="BYTES", shape=[1], parameters=IN_SHARED_MEMORY
                    )
                ]
            ),
            "the parameter 'shared_memory_region' of 'image' is not supported",
            "inputs[0].parameters",
        ),
        *(
            (
                lambda parameters=parameters: oip.ModelInferRequest(
                    outputs=[
                        oip.ModelInferRequest.InferRequestedOutputTensor(
                            name="logits", parameters=parameters
                        )
                    ]
                ),
                f"the parameter '{next(iter(parameters))}' of 'logits' is not supported: "
                "tensors come whole, and within the messages; leave it out",
                "outputs[0].parameters",
            )
            for parameters in (CLASSIFIED, IN_SHARED_MEMORY)
        ),
        *(
            (
                lambda number=number: oip.ModelInferRequest(
                    parameters={"max_phrases": oip.InferParameter(int64_param=number)}
                ),
                f"'max_phrases' is {number}; give 1 to 20",
                "parameters",
            )
            for number in (-(2**40), 0, 2**40)
        ),
    ],
)
def test_bad_input_is_refused_with_the_field_at_fault(stub, request_of, words, field):
    with pytest.raises(grpc.RpcError, match=words) as refused:
        stub.ModelInfer(request_of())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    fault = error_details_pb2.BadRequest()
    assert any(detail.Unpack(fault) for detail in rpc_status.from_call(refused.value).details)
    assert fault.field_violations[0].field == field


@pytest.mark.parametrize("number", [-(2**40), -1, 1000, 2**40])
def test_a_class_by_a_number_that_no_class_has_is_not_found(stub, number):
    asked = oip.ModelInferRequest(parameters={"class": oip.InferParameter(int64_param=number)})
    with pytest.raises(grpc.RpcError, match=f"classes 0 to 999, not {number}") as refused:
        stub.ModelInfer(asked)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
