"""Maps that stay on a device and are summed there: on the CPU, against the host's arithmetic.

The CPU's sessions are bound as a GPU's are (IOBinding), so the same code runs.
"""

import asyncio

import grpc
import numpy as np
import onnxruntime as ort
import psutil
import pytest
import torch
from head_networks import Around, Deeper, Transformer, exported
from head_networks import images as pictures
from small_models import CHANNELS, CLASSES, SIDE, write_model
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_service.artefacts.bank import ConceptBank, Vocabulary, write_bank
from textcam_service.artefacts.packaged import DEVICE
from textcam_service.core.methods import METHODS, MethodSettings, run_method
from textcam_service.core.predictions import predictions
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.errors import InvalidSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.model.explainer import make_rationale, method_input
from textcam_service.offline.evaluation.cases import explain_case, observe, scene_truth
from textcam_service.offline.export.device_graphs import device_graphs
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.device_tensors import PICKED, ROWS, VALUES, Device, DeviceRow
from textcam_service.runtime.providers import CPU, CUDA, DeviceOptions
from textcam_service.serving.server import Server
from textcam_service.settings import ServerSettings

IN_GRAPH = DeviceOptions(max_batch=4, in_graph=True)
NETWORKS = {
    "pooled and linear": None,
    "strided": (Deeper, {"target_layer": "stem"}),
    "with layers": (Deeper, {"target_layer": "body.4", "layers": ("body.2", "stem")}),
    "residual around": (Around, {"target_layer": "branch"}),
    "tokens": (Transformer, {"target_layer": "blocks.0"}),
}


def bank_for(folder):
    """Random directions: what they say is of no meaning, but changes with the channels."""
    backbone, rng = Backbone(folder / "b", threads=1), np.random.default_rng(4)
    channels = backbone.manifest.channel_count
    directions, texts = rng.normal(size=(channels, 12)), rng.normal(size=(9, 12))
    bank = ConceptBank(
        directions / np.linalg.norm(directions, axis=1, keepdims=True),
        np.zeros(channels, bool),
        np.zeros(12, np.float32),
        backbone.fingerprint(),
        backbone.manifest.weights_digest,
        "none",
        {"rationale": {"prior": 0.0}},
    )
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    phrases = tuple(f"phrase {index}" for index in range(len(texts)))
    write_bank(folder / "bank", bank, Vocabulary(phrases, texts, "none"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each network with a bank, by name; exported once."""
    made = {}
    for name, given in NETWORKS.items():
        folder = tmp_path_factory.mktemp("network")
        if given is None:
            write_model(folder, 3)
            (folder / "backbone").rename(folder / "b")
        else:
            module, options = given
            exported(module, folder, **options)
            bank_for(folder)
        made[name] = folder
    return made


def loaded(folder, device=None):
    """On the CPU and brought here, unless `device` says otherwise."""
    providers = () if device else ("cpu",)
    return ModelBundle.load(
        "m", folder / "b", folder / "bank", threads=1, device=device, providers=providers
    )


@pytest.fixture(params=NETWORKS)
def pair(request, folders):
    """The same bundle twice: maps brought here, and maps that stay."""
    folder = folders[request.param]
    return loaded(folder), loaded(folder, IN_GRAPH)


def explained(bundle, seen, image, method, index):
    """A rationale of a class under a method, as the pipeline makes it."""
    target = predictions(seen.logits, bundle.class_names, [index])[0]
    inputs = method_input(bundle, seen, image, target, None)
    steps = METHODS[method].queries(inputs, MethodSettings(chunk=4))
    terms = run_method(steps, lambda ask: bundle.backbone.query(ask, seen))
    return make_rationale(bundle, seen, terms, target, None, PhraseFilter(3))


def assert_alike(found, wanted, tolerance=1e-5):
    assert [p.text for p in found.phrases] == [p.text for p in wanted.phrases]
    whole = max(np.abs(part.saliency_map).max() for part in (*wanted.groups, wanted.rest))
    scale = float(max(whole, np.abs(wanted.saliency_map).max()))
    np.testing.assert_allclose(found.saliency_map, wanted.saliency_map, atol=tolerance * scale)
    pairs = zip((*found.groups, found.rest), (*wanted.groups, wanted.rest), strict=True)
    for own, other in pairs:
        assert own.channel_ids.tolist() == other.channel_ids.tolist()
        np.testing.assert_allclose(own.saliency_map, other.saliency_map, atol=tolerance * scale)
        assert own.evidence == pytest.approx(other.evidence, abs=tolerance * scale)
    assert found.logit == pytest.approx(wanted.logit, rel=tolerance)
    assert found.gap == pytest.approx(wanted.gap, abs=tolerance * (scale + abs(wanted.logit)))


def test_every_method_explains_alike_wherever_the_maps_lie(pair):
    here, there = pair
    images = pictures(3)
    seen = [bundle.backbone.forward(images) for bundle in pair]
    assert isinstance(seen[0][0].activation_maps, np.ndarray)
    assert isinstance(seen[1][0].activation_maps, DeviceRow)
    assert here.methods == there.methods
    for method in here.methods:
        if method.name == "ss_cam":  # Score-CAM's steps, 35 times over
            continue
        for place, index in ((0, 1), (2, 4)):
            own = [explained(b, s[place], images[place], method.name, index)
                   for b, s in zip(pair, seen, strict=True)]  # fmt: skip
            assert np.ptp(own[0].saliency_map) > 0, method.name
            assert_alike(own[1], own[0])


@pytest.mark.parametrize("name", ["pooled and linear", "strided", "tokens"])
def test_maps_and_gradients_stay_where_sums_are_enough(folders, name, monkeypatch):
    """For CAM, Grad-CAM and Finer-CAM nothing is fetched; HiResCAM needs all of both."""
    fetched = []
    fetch = Device.to_host

    def counted(self, batch, row):
        fetched.append(tuple(batch.shape()))
        return fetch(self, batch, row)

    monkeypatch.setattr(Device, "to_host", counted)
    bundle = loaded(folders[name], IN_GRAPH)
    (seen,) = bundle.backbone.forward(pictures(1))
    for method in {"cam", "grad_cam", "finer_cam"} & {own.name for own in bundle.methods}:
        explained(bundle, seen, pictures(1)[0], method, 0)
    assert fetched == []
    explained(bundle, seen, pictures(1)[0], "hires_cam", 0)
    shape = (1, *seen.activation_maps.shape)
    assert fetched == ([shape] if bundle.backbone.is_linear else [shape, shape])
    explained(bundle, seen, pictures(1)[0], "hires_cam", 0)
    assert len(fetched) <= 3  # the image's own maps only once


def test_a_batch_is_filled_up_to_its_bucket_and_answers_for_its_images_alone(pair):
    here, there = pair
    assert (here.backbone.buckets.sizes, there.backbone.buckets.sizes) == ((), (1, 2, 4))
    images = pictures(9)
    for count, size in ((1, 1), (2, 2), (3, 4), (4, 4), (9, 4)):
        own, other = (bundle.backbone.forward(images[:count]) for bundle in pair)
        assert len(other) == count
        assert other[0].activation_maps.batch.shape()[0] == size
        if count == 9:  # more than the last bucket go in parts
            assert other[8].activation_maps.batch.shape()[0] == 1
        for one, two in zip(own, other, strict=True):
            np.testing.assert_allclose(two.logits, one.logits, atol=1e-5)
            np.testing.assert_allclose(two.activation_maps, one.activation_maps, atol=1e-5)
            for name, value in one.further.items():
                np.testing.assert_allclose(two.further[name], value, atol=1e-5)
        logits, maps = there.backbone.run(images[:count])
        np.testing.assert_array_equal(logits, there.backbone.logits(images[:count]))
        for found, wanted in zip((logits, maps), here.backbone.run(images[:count]), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["strided", "residual around", "tokens"])
def test_gradients_of_images_of_several_batches_come_back_in_order(folders, name):
    here, there = loaded(folders[name]).backbone, loaded(folders[name], IN_GRAPH).backbone
    images = pictures(6)
    weights = np.random.default_rng(2).normal(size=(6, CLASSES))
    own, first, second = here.forward(images), there.forward(images[:3]), there.forward(images[3:])
    mixed, places = [], []
    for place in (4, 0, 5, 2, 1, 3):
        mixed.append((first if place < 3 else second)[place % 3])
        places.append(place)
    found = there.gradients(mixed, weights)
    wanted = here.gradients([own[place] for place in places], weights)
    scale = np.abs(wanted).max()
    for one, two in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(one), two, atol=1e-5 * scale)
        np.testing.assert_allclose(one.scores(), two.mean((1, 2)), atol=1e-6 * scale)


def test_what_was_brought_home_is_judged_as_ever(folders):
    """Evaluation changes maps, so it takes them home: rationales are those of the host."""
    bundles = [loaded(folders["strided"], device) for device in (None, IN_GRAPH)]
    cases = scene_truth(3).cases
    for own, other in zip(*(observe(bundle, cases) for bundle in bundles), strict=True):
        assert isinstance(other.activation_maps, np.ndarray)
        assert_alike(explain_case(bundles[1], other, 3), explain_case(bundles[0], own, 3))


def test_every_bucket_is_run_before_the_server_serves(folders, monkeypatch):
    sizes, see = [], Backbone.forward

    def counted(self, images):
        sizes.append(len(images))
        return see(self, images)

    monkeypatch.setattr(Backbone, "forward", counted)
    loaded(folders["tokens"], IN_GRAPH).backbone.warm()
    assert sizes == [1, 2, 4]
    loaded(folders["tokens"]).backbone.warm()
    assert sizes == [1, 2, 4]  # the CPU has no kernels to choose


def test_so_is_every_bucket_of_gradients_and_none_is_skipped_for_weights_of_0(folders, monkeypatch):
    asked, gradients = [], Backbone.gradients

    def noted(self, seen, class_weights):
        asked.append((len(seen), bool(np.all(class_weights))))
        return gradients(self, seen, class_weights)

    monkeypatch.setattr(Backbone, "gradients", noted)
    loaded(folders["strided"], IN_GRAPH).backbone.warm()
    assert asked == [(1, True), (2, True), (4, True)]


def test_what_stays_on_the_device_does_not_keep_what_it_was_made_of():
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = False  # which would keep it too
    device = Device(
        "cpu", lambda model: ort.InferenceSession(model, options, ["CPUExecutionProvider"])
    )
    process, batch = psutil.Process(), np.ones((64, 256, 32, 32), np.float32)  # 64 MiB

    def gather(values, rows):
        feeds = {VALUES: values, ROWS: np.arange(rows)}
        return device.run(device._rows, feeds, stay=[PICKED])[1][0]

    first, before = gather(gather(batch, 64), 1), process.memory_info().rss
    others = [gather(gather(batch, 64), 1) for _ in range(8)]
    assert process.memory_info().rss - before < 4 * batch.nbytes
    assert [other.shape() for other in others] == [first.shape()] * 8


def test_the_small_graphs_are_what_their_source_makes():
    for name, made in device_graphs().items():
        path = DEVICE / f"{name}.onnx"
        assert path.read_bytes() == made, "python -m textcam_service.offline.export.device_graphs"
    assert len(list(DEVICE.iterdir())) == len(device_graphs())


def test_a_gpu_that_is_not_here_is_refused_with_the_mend(folders):
    if torch.cuda.is_available():
        pytest.skip("NOT TESTED: a machine without a GPU's providers, for this one has them")
    with pytest.raises(InvalidSettings, match="no CUDAExecutionProvider here"):
        Backbone(folders["tokens"] / "b", providers=("cuda",))
    with pytest.raises(InvalidSettings, match="put 'tensorrt' first"):
        Backbone(folders["tokens"] / "b", device=DeviceOptions(precision="fp16"))
    named = Backbone(folders["tokens"] / "b", providers=("cpu",))
    assert (named.execution_provider, named.precision) == ("CPUExecutionProvider", "float32")


def test_a_gpu_that_nobody_named_and_that_does_not_start_is_warned_of(folders, monkeypatch, caplog):
    if torch.cuda.is_available():
        pytest.skip("NOT TESTED: a GPU that does not start, for this one does")
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    backbone = Backbone(folders["tokens"] / "b")
    assert backbone.execution_provider == CPU
    assert f"{CUDA} did not start, so the network runs on {CPU}; name it in" in caplog.text


async def answers(bundle, requests):
    """What a server says over loopback to all requests at a time."""
    settings = ServerSettings(port=0, metrics_port=-1, max_batch=4, decode_threads=2)
    server = Server(bundle, settings)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = explainer_pb2_grpc.ExplainerServiceStub(channel)
            calls = [stub.Explain(request, timeout=60) for request in requests]
            return await asyncio.gather(*calls)
    finally:
        await server.stop()


@pytest.mark.parametrize("name", ["pooled and linear", "residual around"])
async def test_a_server_answers_alike_wherever_the_maps_lie(folders, name):
    rng, methods = np.random.default_rng(8), ("grad_cam", "hires_cam", "eigen_cam", "score_cam")
    requests = []
    for index in range(12):
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        tensor = types_pb.Tensor(
            dtype=types_pb.Tensor.D_TYPE_UINT8, shape=pixels.shape, data=pixels.tobytes()
        )
        method = types_pb.CamMethod.Value(f"CAM_METHOD_{methods[index % 4].upper()}")
        requests.append(pb.ExplainRequest(request_id=str(index), pixels=tensor, method=method))
    own, other = [await answers(loaded(folders[name], device), requests)
                  for device in (None, IN_GRAPH)]  # fmt: skip
    assert [answer.request_id for answer in other] == [str(index) for index in range(12)]
    for one, two in zip(own, other, strict=True):
        before, after = one.explanations[0], two.explanations[0]
        assert [p.text for p in after.phrases] == [p.text for p in before.phrases]
        maps = [np.frombuffer(e.saliency_map.data, "<f4") for e in (before, after)]
        np.testing.assert_allclose(maps[1], maps[0], atol=1e-5 * np.abs(maps[0]).max())
        assert after.rest.evidence == pytest.approx(before.rest.evidence, abs=1e-4)


def test_a_linear_heads_evidence_still_adds_up_to_the_logit(folders):
    bundle = loaded(folders["pooled and linear"], IN_GRAPH)
    for image, seen in zip(pictures(3), bundle.backbone.forward(pictures(3)), strict=True):
        found = explained(bundle, seen, image, "cam", 2)
        parts = [*found.groups, found.rest]
        assert sum(len(part.channel_ids) for part in parts) == CHANNELS
        total = found.bias + sum(part.evidence for part in parts)
        assert total == pytest.approx(found.logit, abs=1e-4)
