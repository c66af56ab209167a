"""Answers as messages."""

import numpy as np
import pytest
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_service.core.types import Crop
from textcam_service.errors import ResponseTooLarge
from textcam_service.serving.grpc.explainer.heatmaps import ImageInfo
from textcam_service.serving.grpc.explainer.responses import check_size, tensor_message

SCENE = ImageInfo(300, 400, "raw", Crop(0, 0, 300, 400))


def test_an_answer_over_the_messages_limit_is_refused_with_what_to_leave_out():
    heat = tensor_message(np.zeros((300, 400), np.uint8))
    explanations = [pb.Explanation(heatmap=types_pb.Heatmap(image=heat)) for _ in range(3)]
    response = pb.ExplainResponse(explanations=explanations)
    check_size(response, SCENE, 3 * 120_000 + 2000)
    with pytest.raises(
        ResponseTooLarge, match=r"3 target\(s\) of a 400 x 300 .* fewer targets"
    ) as no:
        check_size(response, SCENE, 3 * 120_000)
    assert no.value.field == "heatmap"


def test_the_limit_leaves_room_for_a_streams_envelope():
    response = pb.ExplainResponse(request_id="x" * 128, explanations=[pb.Explanation()] * 100)
    wrapped = pb.ExplainStreamResponse(request_id="x" * 128, response=response)
    with pytest.raises(ResponseTooLarge):
        check_size(response, SCENE, wrapped.ByteSize() - 1)
    check_size(response, SCENE, response.ByteSize() + 1024)
