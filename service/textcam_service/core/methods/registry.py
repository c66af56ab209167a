"""Registry of all methods: their names in requests, needs and costs."""

from __future__ import annotations

from collections.abc import Mapping

from textcam_service.core.methods import decomposition, gradient, multilayer, perturbation
from textcam_service.core.methods.base import Capability, Method, MethodSettings

_LINEAR = frozenset({Capability.LINEAR_HEAD})
_HEAD = frozenset({Capability.HEAD})
_GRADIENT = frozenset({Capability.GRADIENT})
_LAYERS = frozenset({Capability.GRADIENT, Capability.LAYERS})
_ATTENTION = frozenset({Capability.ATTENTION})


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
        Method("cam", "CAM", gradient.cam, _LINEAR, complete=True),
        Method("grad_cam", "Grad-CAM", gradient.grad_cam, _GRADIENT, complete=True),
        Method("grad_cam_plus_plus", "Grad-CAM++", gradient.grad_cam_plus_plus, _GRADIENT),
        Method("xgrad_cam", "XGrad-CAM", gradient.xgrad_cam, _GRADIENT, complete=True),
        Method("hires_cam", "HiResCAM", gradient.hires_cam, _GRADIENT, complete=True),
        Method("layer_cam", "LayerCAM", gradient.layer_cam, _GRADIENT),
        Method("eigen_cam", "Eigen-CAM", decomposition.eigen_cam, in_logit_units=False),
        Method("eigen_grad_cam", "Eigen-Grad-CAM", decomposition.eigen_grad_cam, _GRADIENT),
        Method(
            "score_cam",
            "Score-CAM",
            perturbation.score_cam,
            in_logit_units=False,
            image_passes=_channels,
        ),
        Method(
            "ss_cam",
            "SS-CAM",
            perturbation.ss_cam,
            in_logit_units=False,
            image_passes=_noisy_channels,
            parameters=("seed", "smooth_samples", "smooth_sigma"),
        ),
        Method(
            "ablation_cam",
            "Ablation-CAM",
            perturbation.ablation_cam,
            _HEAD,
            in_logit_units=False,
            head_passes=_channels,
        ),
        Method(
            "recipro_cam",
            "Recipro-CAM",
            perturbation.recipro_cam,
            _HEAD,
            complete=True,
            head_passes=_cells_and_none,
        ),
        Method(
            "finer_cam",
            "Finer-CAM",
            gradient.finer_cam,
            _GRADIENT,
            parameters=("finer_gamma", "finer_classes"),
        ),
        Method(
            "decom_cam",
            "DecomCAM",
            decomposition.decom_cam,
            _GRADIENT,
            image_passes=_sub_maps_and_reference,
            parameters=("decom_channels", "decom_maps"),
        ),
        Method(
            "integrative_cam",
            "Integrative CAM",
            multilayer.integrative_cam,
            _LAYERS,
            in_logit_units=False,
        ),
        Method("vs_cam", "VS-CAM", gradient.vs_cam, _GRADIENT),
        Method("legrad", "LeGrad", multilayer.legrad, _ATTENTION, in_logit_units=False),
    )
}
