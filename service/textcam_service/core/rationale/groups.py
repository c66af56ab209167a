"""Groups of channels, each with its phrase, its map and its exact share of the logit."""

from __future__ import annotations

import numpy as np

from textcam_service.core.cam import weighted_maps
from textcam_service.core.maps import RemoteMaps
from textcam_service.core.types import FloatArray, IntArray, SaliencyGroup

REST = -1


def saliency_groups(
    assignment: IntArray,
    cam_weights: FloatArray,
    activation_maps: FloatArray | RemoteMaps,
    evidence: FloatArray,
    contrast: FloatArray,
) -> tuple[tuple[SaliencyGroup, ...], SaliencyGroup]:
    """Split the map and the evidence: V_g = sum over j in g of w_j A_j.

    Args:
        assignment: (D,) indices in the phrases, or REST; see strongest_support.
        cam_weights: (D,) or (D, H, W) of the method.
        activation_maps: (D, H, W).
        evidence: (D,) e_j; see Rationale.in_logit_units.
        contrast: (K, D) of the phrases' relative maps, see core.concepts.supports.contrasts.

    Returns:
        K groups in the phrases' order, and the rest. Maps and evidence of all of them add
        up to the whole's.
    """
    count, channels = contrast.shape
    member = np.zeros((count + 1, channels))  # the rest is the last row
    member[np.where(assignment == REST, count, assignment), np.arange(channels)] = 1
    if cam_weights.ndim == 1:
        size = np.abs(cam_weights)
        rows = np.concatenate([member * cam_weights, contrast * size / (size.mean() or 1.0)])
        maps = weighted_maps(rows, activation_maps)
    else:
        here, size = np.asarray(activation_maps), np.abs(cam_weights)
        own = weighted_maps(member, cam_weights * here)
        maps = np.concatenate([own, weighted_maps(contrast, size / (size.mean() or 1.0) * here)])
    relative = maps[count + 1 :] - maps[count + 1 :].mean(axis=(1, 2), keepdims=True)

    def group(phrase_index: int) -> SaliencyGroup:
        ids = np.flatnonzero(assignment == phrase_index)
        own = np.asarray(evidence[ids], np.float64)
        of_rest = phrase_index == REST
        return SaliencyGroup(
            phrase_index=phrase_index,
            channel_ids=ids,
            evidence=float(own.sum()),
            evidence_for=float(own[own > 0].sum()),
            evidence_against=float(own[own < 0].sum()),
            saliency_map=maps[count if of_rest else phrase_index],
            relative_map=None if of_rest else relative[phrase_index],
        )

    return tuple(group(index) for index in range(count)), group(REST)
