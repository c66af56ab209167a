"""A model whose classes do not exclude each other, over both contracts and in the SDK."""

import numpy as np
import pytest
import torch
from model_callers import picture, publish, served
from small_models import CLASSES, write_model
from textcam.oip import open_inference_pb2 as oip
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client._convert.responses import model
from textcam_service.store.models import ModelStore

MODEL = types_pb.ModelSpec(name="m")


@pytest.fixture(scope="module", params=[False, True], ids=["exclusive", "multi-label"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    store = ModelStore(folder / "store")
    publish(store, write_model(folder / "made", 3, multi_label=request.param), "1")
    return store.root, request.param


def by_torch(logits, multi_label):
    """Probabilities by torch, of the network's own logits."""
    logits = torch.tensor(logits, dtype=torch.float64)
    return logits.sigmoid() if multi_label else logits.softmax(-1)


async def test_probabilities_are_sigmoids_of_a_multi_label_model_alone(made):
    root, multi_label = made
    async with served(root) as caller:
        described = model(await caller.explainer.GetModel(pb.GetModelRequest(model=MODEL)))
        assert described.multi_label == multi_label
        request = pb.ExplainRequest(
            model=MODEL,
            encoded=picture(4),
            prediction_count=CLASSES,
            target=types_pb.Target(top_k=types_pb.Target.TopK(k=2)),
        )
        response = await caller.explainer.Explain(request, timeout=60)
    listed = response.predictions
    wanted = by_torch([own.logit for own in listed], multi_label)
    np.testing.assert_allclose([own.probability for own in listed], wanted, atol=1e-6)
    assert [own.logit for own in listed] == sorted((own.logit for own in listed), reverse=True)
    assert [own.target for own in response.explanations] == list(listed[:2])
    for own in response.explanations:  # evidence is of the logit, whatever follows it
        whole = own.bias + own.gap + own.rest.evidence + sum(g.evidence for g in own.groups)
        assert whole == pytest.approx(own.logit, abs=1e-4)


async def test_a_contrast_is_of_two_labels_with_their_own_probabilities(made):
    root, multi_label = made
    async with served(root) as caller:
        pair = types_pb.Target.Contrast(
            target=types_pb.ClassRef(index=1), reference=types_pb.ClassRef(index=3)
        )
        request = pb.ExplainRequest(
            model=MODEL,
            encoded=picture(5),
            prediction_count=CLASSES,
            target=types_pb.Target(contrast=pair),
        )
        response = await caller.explainer.Explain(request, timeout=60)
    (own,) = response.explanations
    assert own.logit == pytest.approx(own.target.logit - own.reference.logit, abs=1e-5)
    listed = {each.class_index: each.logit for each in response.predictions}
    wanted = by_torch([listed[index] for index in range(CLASSES)], multi_label)
    found = [own.target.probability, own.reference.probability]
    np.testing.assert_allclose(found, wanted[[1, 3]], atol=1e-6)


async def test_open_inference_answers_the_same_probabilities(made):
    root, multi_label = made
    outputs = oip.ModelInferRequest.InferRequestedOutputTensor
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(picture(4))
    names = ("logits", "probabilities", "class_index")
    async with served(root) as caller:
        request = oip.ModelInferRequest(
            model_name="m", inputs=[tensor], outputs=[outputs(name=name) for name in names]
        )
        response = await caller.inference.ModelInfer(request, timeout=60)
    logits, probabilities, index = (own.contents for own in response.outputs)
    wanted = by_torch(list(logits.fp32_contents), multi_label)
    np.testing.assert_allclose(probabilities.fp32_contents, wanted, atol=1e-6)
    assert list(index.int64_contents) == [np.argmax(logits.fp32_contents)]
