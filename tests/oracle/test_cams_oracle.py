"""CAM methods against grad-cam 1.5.7 and torchcam 0.5.0, on six networks with seeded weights.

The methods are driven by torch (hooks on the target layer), not by ONNX: what is judged is their
arithmetic. Maps are compared after the peer's own normalisation, applied to both.

Neither peer has Recipro-CAM, DecomCAM, Integrative CAM and VS-CAM; they are checked by hand in
tests/unit/service/core/methods.
"""

import math

import numpy as np
import pytest
import pytorch_grad_cam as gradcam
import torch
import torchcam.methods as torchcam
import torchvision.models as zoo
from oracle_networks import (
    TOLERANCE,
    Net,
    array,
    calibrated,
    difference,
    drawn_by_grad_cam,
    drawn_by_torchcam,
)
from textcam_service.core.cam import saliency_map
from textcam_service.core.interpolation import resample
from textcam_service.core.methods import (
    METHODS,
    AttentionGradients,
    Gradient,
    MethodSettings,
    run_method,
)
from torch import nn
from torch.nn import functional


def tokens_to_maps(tokens):
    side = math.isqrt(tokens.shape[1] - 1)
    return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)


def maps_to_tokens(maps, tokens):
    return torch.cat([tokens[:, :1].expand(len(maps), -1, -1), maps.flatten(2).mT], dim=1)


def last_to_second(output):
    return output.permute(0, 3, 1, 2)


def resnet50():
    model = calibrated(zoo.resnet50(), 224)
    return Net(model, model.layer4, 224, head=model.fc)


def vgg16():
    model = zoo.vgg16()
    return Net(model, model.features, 128)


def convnext_tiny():
    model = zoo.convnext_tiny()
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.constant_(parameter, 0.5)  # the initial 1e-6 leaves blocks without effect
    return Net(model, model.features, 160)


def mobilenet_v3_small():
    model = calibrated(zoo.mobilenet_v3_small(), 224)
    return Net(model, model.features, 224)


def vit_b_16():
    """Cut where patch tokens still have gradients: before the last block."""
    model = zoo.vit_b_16()
    nn.init.normal_(model.heads.head.weight, std=0.05)  # zero at birth
    return Net(model, model.encoder.layers[-2], 224, tokens_to_maps, maps_to_tokens)


def swin_t():
    """Cut behind the last normalisation: before it, a token's gradient is orthogonal to it."""
    model = zoo.swin_t()
    nn.init.normal_(model.norm.weight, mean=1, std=0.3)
    return Net(model, model.norm, 224, last_to_second, head=model.head)


BUILDERS = (resnet50, vgg16, convnext_tiny, mobilenet_v3_small, vit_b_16, swin_t)


every_net = pytest.mark.parametrize(
    "net", BUILDERS, ids=lambda builder: builder.__name__, indirect=True
)


@pytest.fixture(scope="module")
def built():
    return {}


@pytest.fixture
def net(request, built):
    """A network, and a class whose map has positive and negative positions."""
    builder = request.param
    if builder not in built:
        torch.manual_seed(1)
        built[builder] = with_telling_class(builder())
    return built[builder]


def with_telling_class(net):
    for net.class_index in range(50):
        found = net.explain("grad_cam")
        if found.min() < 0 < found.max() and found.max() > -found.min() / 2:
            return net
    raise AssertionError("no class with a telling map")


class GradCamPlusPlus(gradcam.GradCAMPlusPlus):
    """grad-cam's, without the 1e-6 that it adds to a denominator as small as g^2.

    alpha stays the same when g grows and A shrinks by the same factor; the 1e-6 fades.
    """

    def get_cam_weights(self, input_tensor, layers, category, activations, grads):
        grown = 1e4
        return super().get_cam_weights(
            input_tensor, layers, category, activations / grown, grads * grown
        )


GRAD_CAM = {
    "grad_cam": gradcam.GradCAM,
    "grad_cam_plus_plus": GradCamPlusPlus,
    "xgrad_cam": gradcam.XGradCAM,
    "hires_cam": gradcam.HiResCAM,
    "layer_cam": gradcam.LayerCAM,
    "eigen_cam": gradcam.EigenCAM,
    "eigen_grad_cam": gradcam.EigenGradCAM,
}


# HiResCAM of the ViT vanishes: see the test below.
PAIRS = [
    pytest.param(builder, name, id=f"{builder.__name__}-{name}")
    for builder in BUILDERS
    for name in GRAD_CAM
    if (builder, name) != (vit_b_16, "hires_cam")
]


@pytest.mark.parametrize(("net", "name"), PAIRS, indirect=["net"])
def test_grad_cam_draws_the_same(net, name):
    """Of one image and one class, the default drawing at the image's size.

    Two deviations are undone: an eigenvector's sign is LAPACK's whim in grad-cam and settled here,
    so either sign may match; Grad-CAM++ is asked for without grad-cam's 1e-6 (GradCamPlusPlus).
    """
    theirs = net.grad_cam(GRAD_CAM[name](net.model, [net.target], net.to_maps))
    ours = net.explain(name)
    signs = (1, -1) if name.startswith("eigen") else (1,)
    found = min(difference(drawn_by_grad_cam(sign * ours, net.size), theirs) for sign in signs)
    assert found <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("grad_cam", torchcam.GradCAM),
        ("xgrad_cam", torchcam.XGradCAM),
        ("layer_cam", torchcam.LayerCAM),
        ("finer_cam", torchcam.FinerCAM),
    ],
)
@every_net
def test_torchcam_makes_the_same(net, name, peer):
    """At the maps' size, default settings (Finer-CAM: gamma 0.6, the 3 nearest logits)."""
    assert difference(drawn_by_torchcam(net.explain(name)), net.torchcam(peer)) <= TOLERANCE


@every_net
def test_grad_cam_draws_the_same_finer_cam_of_the_papers_contrast(net):
    """By default grad-cam weighs the similar classes by their probabilities and takes gamma as 1.

    The paper and torchcam take their mean and 0.6; grad-cam is given that contrast as its target.
    """
    logits = net.inputs().logits
    similar = np.argsort(np.abs(logits - logits[net.class_index]))[1:4]

    def contrast(logits):
        return logits[net.class_index] - 0.6 * logits[similar].mean()

    peer = gradcam.FinerCAM(net.model, [net.target], net.to_maps)
    theirs = net.grad_cam(peer, [contrast])
    assert difference(drawn_by_grad_cam(net.explain("finer_cam"), net.size), theirs) <= TOLERANCE


@every_net
def test_a_contrast_of_classes_is_explained_as_grad_cam_does(net):
    """Any class weights, e.g. one class rather than another."""
    weights = np.zeros(1000)
    weights[[net.class_index, net.class_index + 1, net.class_index + 2]] = 1, -0.7, 0.2
    inputs = net.inputs(weights)
    theirs = net.grad_cam(
        gradcam.GradCAM(net.model, [net.target], net.to_maps),
        [lambda logits: logits @ torch.from_numpy(weights).float()],
    )
    for name in ("grad_cam", "finer_cam"):
        ours = net.explain(name, inputs)
        assert difference(drawn_by_grad_cam(ours, net.size), theirs) <= TOLERANCE


@every_net
def test_torchcam_forgets_grad_cam_plus_plus_denominator(net):
    """torchcam divides a copy, so its alpha is the numerator g^2; undone, it is this map."""
    inputs = net.inputs()
    gradient = net.answer(Gradient(inputs.class_weights))
    weights = (np.maximum(gradient, 0).astype(np.float64) ** 3).sum(axis=(1, 2))
    expected = drawn_by_torchcam(saliency_map(weights, inputs.activation_maps))
    # Its maps are so small that its normalisation's own 1e-8 shows.
    theirs = drawn_by_torchcam(net.torchcam(torchcam.GradCAMpp, normalized=False))
    assert difference(expected, theirs) <= TOLERANCE
    assert difference(drawn_by_torchcam(net.explain("grad_cam_plus_plus")), theirs) > 0.01


@pytest.mark.parametrize("net", [resnet50, swin_t], indirect=True)
def test_torchcam_makes_the_same_cam(net):
    """torchcam's CAM keeps negative positions, so the map is stretched without a ReLU.

    It takes only maps with channels second, so Swin's is taken through its permutation.
    """
    target = net.target if net.to_maps is None else net.model.permute
    with torchcam.CAM(net.model, target, net.head) as peer:
        scores = net.model(net.image)
        theirs = array(peer(net.class_index, scores)[0][0])
    ours = net.explain("cam")
    assert difference((ours - ours.min()) / np.ptp(ours), theirs) <= TOLERANCE


@pytest.mark.parametrize("net", [resnet50, swin_t], indirect=True)
def test_on_gap_and_linear_the_linear_methods_are_one(net):
    """CAM = Grad-CAM = HiResCAM = XGrad-CAM = Recipro-CAM, in units of the logit."""
    inputs = net.inputs()
    expected = net.explain("cam", inputs)
    bias = float(net.head.bias[net.class_index])
    assert expected.mean() + bias == pytest.approx(inputs.logits[net.class_index], rel=1e-4)
    for name in ("grad_cam", "hires_cam", "xgrad_cam", "recipro_cam"):
        np.testing.assert_allclose(net.explain(name, inputs), expected, atol=1e-5)


@pytest.mark.parametrize("net", [vit_b_16], indirect=True)
def test_hires_cam_vanishes_before_a_tokens_normalisation(net):
    """Layer normalisation does not see a token's length, so g A sums to 0 at each position.

    True of any weights, here and in grad-cam; hence no map to compare.
    """
    inputs = net.inputs()
    ours = net.explain("hires_cam", inputs)
    gradient = net.answer(Gradient(inputs.class_weights))
    size = np.abs(gradient * inputs.activation_maps).sum(axis=0) * inputs.cells
    assert np.abs(ours).max() < 1e-5 * size.min()
    with gradcam.HiResCAM(net.model, [net.target], net.to_maps) as peer:
        theirs = peer.get_cam_image(
            net.image, None, None, inputs.activation_maps[None], gradient[None], False
        )
    assert np.abs(theirs).max() * inputs.cells < 1e-5 * size.min()


def test_torchcam_makes_the_same_legrad_of_the_networks_score():
    """Two blocks.

    torchcam reads a score of its own out of each block, by its tokens' mean; it is given the
    network's score instead: what follows the block, and the class token.
    """
    torch.manual_seed(6)
    model = zoo.VisionTransformer(48, 8, num_layers=4, num_heads=3, hidden_dim=48, mlp_dim=96)
    nn.init.normal_(model.heads.head.weight, std=0.5)
    net = Net(model, model.encoder.layers[1], 48, tokens_to_maps, maps_to_tokens, class_index=5)
    blocks = list(model.encoder.layers)
    theirs = []
    for depth in (2, 3):

        def score(tokens, depth=depth):
            for block in blocks[depth + 1 :]:
                tokens = block(tokens)
            return model.heads(model.encoder.ln(tokens)[:, 0])

        with torchcam.LeGrad(model, blocks[depth], score_projection=score) as peer:
            model(net.image)
            theirs.append(array(peer(net.class_index, normalized=False)[0][0]))

    def answer(ask):
        assert isinstance(ask, AttentionGradients)
        return attention_gradients(net, blocks[2:], ask.class_weights)

    terms = run_method(METHODS["legrad"].queries(net.inputs(), MethodSettings()), answer)
    ours, expected = terms.saliency_map, np.mean(theirs, axis=0)
    assert difference(drawn_by_torchcam(ours), drawn_by_torchcam(expected)) <= TOLERANCE
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def attention_gradients(net, blocks, class_weights):
    """max(0, d score / d attention), averaged over heads and queries, block by block."""
    _, tokens = net.run(net.image)
    attentions = []
    for block in blocks:
        attention = block.self_attention
        normalised = block.ln_1(tokens)
        projected = functional.linear(normalised, attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = projected.unflatten(-1, (3, attention.num_heads, -1)).permute(
            2, 0, 3, 1, 4
        )
        weights = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), dim=-1)
        attentions.append(weights)
        tokens = tokens + attention.out_proj((weights @ value).transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.ln_2(tokens))
    logits = net.model.heads(net.model.encoder.ln(tokens)[:, 0])[0]
    gradients = torch.autograd.grad(logits.double() @ torch.from_numpy(class_weights), attentions)
    risen = [gradient.relu().mean(dim=(1, 2))[0, 1:] for gradient in gradients]
    side = math.isqrt(len(risen[0]))
    return array(torch.stack(risen).reshape(-1, side, side))


@pytest.mark.parametrize(("grid", "size"), [((7, 7), (224, 224)), ((3, 5), (40, 33))])
def test_maps_are_stretched_as_torch_does(grid, size):
    maps = torch.randn(4, *grid, generator=torch.Generator().manual_seed(1))
    expected = functional.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(resample(maps.numpy(), *size), expected.numpy(), atol=1e-5)


def test_maps_are_shrunk_as_torch_does():
    maps = torch.randn(4, 28, 20, generator=torch.Generator().manual_seed(1))
    expected = functional.interpolate(maps[None], (7, 6), mode="bilinear", antialias=True)[0]
    np.testing.assert_allclose(resample(maps.numpy(), 7, 6), expected.numpy(), atol=1e-5)
