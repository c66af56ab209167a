"""The one interface of sessions, which both runtimes answer to."""

import numpy as np
import onnxruntime as ort
import pytest
from small_models import CHANNELS, CLASSES, SIDE, write_model
from textcam_service.runtime.device_tensors import NEEDED
from textcam_service.runtime.openvino_session import OpenVinoSession
from textcam_service.runtime.session import Session


@pytest.mark.parametrize(
    "start",
    [
        lambda graph: ort.InferenceSession(graph, providers=["CPUExecutionProvider"]),
        lambda graph: OpenVinoSession(graph, 1),
    ],
    ids=["onnxruntime", "OpenVINO"],
)
def test_both_runtimes_are_called_alike(tmp_path, start):
    graph = (write_model(tmp_path, 1) / "backbone" / "backbone.onnx").read_bytes()
    session: Session = start(graph)
    images = np.zeros((3, 3, SIDE, SIDE), np.float32)
    maps, logits = session.run(["activation_maps", "logits"], {"image": images}, NEEDED)
    assert maps.shape == (3, CHANNELS, SIDE // 4, SIDE // 4)
    assert logits.shape == (3, CLASSES)
    with pytest.raises(Exception, match="nowhere"):
        session.run(["nowhere"], {"image": images}, NEEDED)
