"""Channels into groups, each with its phrase, its map and its exact share of the logit."""

from __future__ import annotations

import numpy as np

from textcam_service.core.cam import saliency_map, weighted_maps
from textcam_service.core.maps import RemoteMaps
from textcam_service.core.types import FloatArray, IntArray, SaliencyGroup

REST = -1


def assign_channels(
    channel_embeddings: FloatArray, phrase_embeddings: FloatArray, min_support: float
) -> IntArray:
    """Give each channel to the phrase that its embedding supports best.

    Args:
        channel_embeddings: (D, E) unit vectors; a dead channel's is 0.
        phrase_embeddings: (K, E) unit vectors of the chosen phrases, centred.
        min_support: Cosine below which a channel goes to the rest.

    Returns:
        (D,) places in the phrases, or REST. Ties go to the earlier phrase.
    """
    channels = len(channel_embeddings)
    if not len(phrase_embeddings):
        return np.full(channels, REST, np.int64)
    support = channel_embeddings @ phrase_embeddings.T
    best = support.argmax(axis=1)
    return np.where(support[np.arange(channels), best] >= min_support, best, REST)


def saliency_groups(
    assignment: IntArray,
    count: int,
    cam_weights: FloatArray,
    activation_maps: FloatArray | RemoteMaps,
    evidence: FloatArray,
) -> tuple[tuple[SaliencyGroup, ...], SaliencyGroup]:
    """Split the map and the evidence: V_g = sum over j in g of w_j A_j.

    Args:
        assignment: (D,) as assign_channels returns it.
        count: K, the number of phrases.
        cam_weights: (D,) or (D, H, W) of the method.
        activation_maps: (D, H, W).
        evidence: (D,) e_j; see Rationale.in_logit_units.

    Returns:
        K groups in the phrases' order, and the rest. Maps and evidence of all of them add
        up to the whole's.
    """
    places = [*range(count), REST]
    if cam_weights.ndim == 1:
        own_weights = np.zeros((len(places), len(cam_weights)))
        own_weights[assignment, np.arange(len(cam_weights))] = cam_weights  # REST is the last row
        maps = list(weighted_maps(own_weights, activation_maps))
    else:
        members = [assignment == place for place in places]
        here = np.asarray(activation_maps)
        maps = [saliency_map(cam_weights[own], here[own]) for own in members]

    def group(phrase_index: int) -> SaliencyGroup:
        ids = np.flatnonzero(assignment == phrase_index)
        own = np.asarray(evidence[ids], np.float64)
        return SaliencyGroup(
            phrase_index=phrase_index,
            channel_ids=ids,
            evidence=float(own.sum()),
            evidence_for=float(own[own > 0].sum()),
            evidence_against=float(own[own < 0].sum()),
            saliency_map=maps[phrase_index],
        )

    return tuple(group(index) for index in range(count)), group(REST)
