"""Options of calls become fields of requests."""

from __future__ import annotations

import numpy as np
import pytest
from textcam.v1 import types_pb2 as types_pb
from textcam_client import (
    Contrast,
    Targeted,
    TopK,
)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, types_pb.Target()),
        (TopK(3), types_pb.Target(top_k=types_pb.Target.TopK(k=3))),
        (4, types_pb.Target(classes=types_pb.Target.Classes(classes=[types_pb.ClassRef(index=4)]))),
        (
            np.int64(4),
            types_pb.Target(classes=types_pb.Target.Classes(classes=[types_pb.ClassRef(index=4)])),
        ),
        (
            "Daisy",
            types_pb.Target(
                classes=types_pb.Target.Classes(classes=[types_pb.ClassRef(name="Daisy")])
            ),
        ),
        (
            [0, "daisy"],
            types_pb.Target(
                classes=types_pb.Target.Classes(
                    classes=[types_pb.ClassRef(index=0), types_pb.ClassRef(name="daisy")]
                )
            ),
        ),
        (
            Contrast("daisy", 0),
            types_pb.Target(
                contrast=types_pb.Target.Contrast(
                    target=types_pb.ClassRef(name="daisy"), reference=types_pb.ClassRef(index=0)
                )
            ),
        ),
    ],
)
def test_each_form_of_a_target_is_sent_as_the_contract_has_it(
    server, client, png, target, expected
):
    client.explain(png, target=target)
    assert server.requests[-1].target == expected


@pytest.mark.parametrize("target", [3.5, [None], object(), b"daisy"])
def test_what_names_no_target_is_a_type_error_before_anything_is_sent(server, client, png, target):
    with pytest.raises(TypeError):
        client.explain(png, target=target)
    assert server.requests == []


def test_an_unknown_heatmap_form_is_refused_with_the_forms_that_there_are(client, png):
    with pytest.raises(ValueError, match="'image', 'none', 'overlay', 'saliency'"):
        client.explain(png, heatmap="jet")


def test_options_reach_the_server_and_unset_ones_stay_unset(server, client, png):
    client.explain(
        png, max_phrases=2, include_groups=False, heatmap="none", prediction_count=0, model="fake"
    )
    sent = server.requests[-1]
    assert (sent.max_phrases, sent.include_groups, sent.prediction_count) == (2, False, 0)
    assert sent.model.name == "fake"
    assert sent.heatmap == types_pb.HEATMAP_FORM_NONE
    client.explain(png)
    sent = server.requests[-1]
    assert not sent.HasField("max_phrases")
    assert not sent.HasField("prediction_count")
    assert sent.heatmap == types_pb.HEATMAP_FORM_SALIENCY
    assert sent.request_id


def test_an_image_of_a_stream_may_have_a_target_of_its_own(client, png):
    images = [png, Targeted(png, 3), Targeted(png, Contrast(1, 0))]
    results = list(client.explain_many(images, target="daisy"))
    assert [one.target.class_index for one in results] == [9, 3, 1]
    assert [one.reference and one.reference.class_index for one in results] == [None, None, 0]


def test_an_own_target_that_names_nothing_is_a_type_error(server, client, png):
    with pytest.raises(TypeError):
        list(client.explain_many([Targeted(png, 3.5)]))
    assert server.requests == []
