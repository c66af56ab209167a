"""Methods of one forward pass and, for heads other than GAP + linear, one of the head's VJP.

g = d score / d A. Weights are scaled by the number of positions H W, so that with a GAP + linear
head, where g = w / (H W), Grad-CAM's weights are CAM's.
"""

from __future__ import annotations

import numpy as np

from textcam_service.core.methods.base import (
    CamTerms,
    Gradient,
    Method,
    MethodSettings,
    Need,
    Steps,
    Subject,
)


def cam(subject: Subject, _: MethodSettings) -> Steps:
    """CAM: w_j of the head (Zhou et al. 2016, arXiv 1512.04150, eq. 2). One pass."""
    assert subject.head_weights is not None  # noqa: S101 - Need.LINEAR_HEAD
    return CamTerms(subject.class_weights @ subject.head_weights)
    yield  # a generator, as all methods are


def grad_cam(subject: Subject, _: MethodSettings) -> Steps:
    """Grad-CAM: mean of g (Selvaraju et al. 2017, arXiv 1610.02391, eq. 1). One VJP."""
    gradient = yield Gradient(subject.class_weights)
    return CamTerms(subject.cells * gradient.mean(axis=(1, 2), dtype=np.float64))


def hires_cam(subject: Subject, _: MethodSettings) -> Steps:
    """HiResCAM: g itself, position by position (Draelos and Carin 2020, arXiv 2011.08891). One VJP.

    First order of the score's Taylor series: the terms add up to the logit where the head is
    linear in the maps.
    """
    gradient = yield Gradient(subject.class_weights)
    return CamTerms(subject.cells * gradient.astype(np.float64))


METHODS = (
    Method("cam", "CAM", cam, frozenset({Need.LINEAR_HEAD}), exact=True),
    Method("grad_cam", "Grad-CAM", grad_cam, frozenset({Need.GRADIENT}), exact=True),
    Method("hires_cam", "HiResCAM", hires_cam, frozenset({Need.GRADIENT}), exact=True),
)
