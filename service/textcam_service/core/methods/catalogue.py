"""All methods: their names in requests, what they need and what they cost."""

from __future__ import annotations

from collections.abc import Mapping

from textcam_service.core.methods import decomposed, perturbing, single_pass, structured
from textcam_service.core.methods.base import Method, MethodSettings, Need

_LINEAR = frozenset({Need.LINEAR_HEAD})
_HEAD = frozenset({Need.HEAD})
_GRADIENT = frozenset({Need.GRADIENT})
_LAYERS = frozenset({Need.GRADIENT, Need.LAYERS})
_ATTENTION = frozenset({Need.ATTENTION})


def _channels(channels: int, _: int, __: MethodSettings) -> int:
    return channels


def _noisy_channels(channels: int, _: int, settings: MethodSettings) -> int:
    return channels * settings.smooth_samples


def _cells_and_none(_: int, cells: int, __: MethodSettings) -> int:
    return cells + 1


def _sub_maps_and_reference(channels: int, cells: int, settings: MethodSettings) -> int:
    return 1 + min(settings.decom_maps, settings.decom_channels, channels, cells)


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("cam", "CAM", single_pass.cam, _LINEAR, exact=True),
        Method("grad_cam", "Grad-CAM", single_pass.grad_cam, _GRADIENT, exact=True),
        Method("grad_cam_plus_plus", "Grad-CAM++", single_pass.grad_cam_plus_plus, _GRADIENT),
        Method("xgrad_cam", "XGrad-CAM", single_pass.xgrad_cam, _GRADIENT, exact=True),
        Method("hires_cam", "HiResCAM", single_pass.hires_cam, _GRADIENT, exact=True),
        Method("layer_cam", "LayerCAM", single_pass.layer_cam, _GRADIENT),
        Method("eigen_cam", "Eigen-CAM", decomposed.eigen_cam, in_logit_units=False),
        Method("eigen_grad_cam", "Eigen-Grad-CAM", decomposed.eigen_grad_cam, _GRADIENT),
        Method(
            "score_cam",
            "Score-CAM",
            perturbing.score_cam,
            in_logit_units=False,
            image_passes=_channels,
        ),
        Method(
            "ss_cam",
            "SS-CAM",
            perturbing.ss_cam,
            in_logit_units=False,
            image_passes=_noisy_channels,
            parameters=("seed", "smooth_samples", "smooth_sigma"),
        ),
        Method(
            "ablation_cam",
            "Ablation-CAM",
            perturbing.ablation_cam,
            _HEAD,
            in_logit_units=False,
            head_passes=_channels,
        ),
        Method(
            "recipro_cam",
            "Recipro-CAM",
            perturbing.recipro_cam,
            _HEAD,
            exact=True,
            head_passes=_cells_and_none,
        ),
        Method(
            "finer_cam",
            "Finer-CAM",
            structured.finer_cam,
            _GRADIENT,
            parameters=("finer_gamma", "finer_classes"),
        ),
        Method(
            "decom_cam",
            "DecomCAM",
            decomposed.decom_cam,
            _GRADIENT,
            image_passes=_sub_maps_and_reference,
            parameters=("decom_channels", "decom_maps"),
        ),
        Method(
            "integrative_cam",
            "Integrative CAM",
            structured.integrative_cam,
            _LAYERS,
            in_logit_units=False,
        ),
        Method("vs_cam", "VS-CAM", structured.vs_cam, _GRADIENT),
        Method("legrad", "LeGrad", structured.legrad, _ATTENTION, in_logit_units=False),
    )
}
