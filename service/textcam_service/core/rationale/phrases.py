"""Evidence embedding and sparse choice of phrases.

TextCAM (arXiv 2510.01004): T = sum_j e_j s_j is approximated by few phrases,

    min over beta >= 0 of  ||T - V' beta||^2 + lambda_1 sum_i beta_i
                           + lambda_2 sum_{i != k} beta_i beta_k max(<v_i, v_k>, 0).

The paper's last term has the bare inner product. Centred phrases can point away from each
other, and then that term rewards naming opposites without bound. The max prevents this.
"""

from __future__ import annotations

import numpy as np

from textcam_service.core.rationale.phrase_choice import Choice
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.core.types import Float32Array, Float64Array, FloatArray
from textcam_service.core.vectors import unit

_SWEEPS = 200
_CONVERGED = 1e-10


def center_texts(text_embeddings: FloatArray) -> Float32Array:
    """Remove a vocabulary's mean direction: (V, E) unit vectors -> (V, E) unit vectors.

    Without this step the mean direction decides, and every rationale has the same phrases. A single
    phrase stays as it is.
    """
    if len(text_embeddings) < 2:
        return np.asarray(text_embeddings, np.float32)
    centred = np.asarray(text_embeddings, np.float64)
    centred = centred - centred.mean(axis=0)
    return np.asarray(unit(centred), np.float32)


def evidence_embedding(
    evidence: FloatArray,
    channel_embeddings: FloatArray,
    mean_embedding: FloatArray,
    settings: RationaleSettings,
) -> Float64Array:
    """Compute T = sum_j f(e_j) s_j, normalised: (D,), (D, E), (E,) -> (E,).

    f is the identity or the signed square root (settings.root); `mean_embedding`, the
    probing set's, is added with weight settings.prior.
    """
    weights = np.asarray(evidence, np.float64)
    if settings.root:
        weights = np.sign(weights) * np.sqrt(np.abs(weights))
    # In the embeddings' own type: to widen them would take longer than the product.
    total = unit(weights.astype(channel_embeddings.dtype) @ channel_embeddings).astype(np.float64)
    if settings.prior:
        total = unit(total + settings.prior * unit(np.asarray(mean_embedding, np.float64)))
    return total


def choose_phrases(
    evidence_embedding: FloatArray,
    text_embeddings: FloatArray,
    count: int,
    settings: RationaleSettings,
) -> Choice:
    """Choose at most `count` phrases, greedily, re-fitting all coefficients at each step.

    Each step takes the phrase that lowers the objective most and is no near-duplicate of a
    chosen one; the choice ends early if none lowers it. Ties go to the lower index, so the result
    is deterministic.

    Args:
        evidence_embedding: (E,) unit vector.
        text_embeddings: (V, E) unit vectors, centred.
        count: Maximum number of phrases, >= 1.
        settings: See RationaleSettings.
    """
    own_type = evidence_embedding.astype(text_embeddings.dtype)
    similarities = np.asarray(text_embeddings @ own_type, np.float64)
    pool = np.argsort(-similarities, kind="stable")[: max(settings.candidates, count)]
    candidates = np.asarray(text_embeddings[pool], np.float64)
    gram = candidates @ candidates.T
    coupling = gram + settings.decorrelation * np.maximum(gram, 0)
    np.fill_diagonal(coupling, np.diagonal(gram))
    target = similarities[pool] - settings.sparsity / 2
    chosen: list[int] = []
    beta: Float64Array = np.zeros(0)
    # A phrase that points away from the evidence is never named.
    allowed = similarities[pool] > 0
    while len(chosen) < count and allowed.any():
        gain = target - coupling[:, chosen] @ beta
        best = int(np.argmax(np.where(allowed, gain, -np.inf)))
        if gain[best] <= 0:
            break
        chosen.append(best)
        allowed &= gram[best] <= settings.max_similarity
        allowed[best] = False
        beta = _non_negative_fit(coupling[np.ix_(chosen, chosen)], target[chosen])
    kept = [place for place, value in enumerate(beta) if value > 0]
    indices = pool[[chosen[place] for place in kept]]
    return Choice(indices.astype(np.int64), beta[kept], similarities[indices])


def _non_negative_fit(coupling: Float64Array, target: Float64Array) -> Float64Array:
    """Minimise b^T Q b - 2 t^T b over b >= 0.

    If no bound is active, the minimum lies where the gradient is 0. Otherwise it is found by
    coordinate descent from 0, on Python's own numbers, which are several times faster for a few
    phrases.
    """
    try:
        np.linalg.cholesky(coupling)  # raises unless there is one minimum
        free = np.linalg.solve(coupling, target)
    except np.linalg.LinAlgError:
        free = np.full(1, -np.inf)
    if (free >= 0).all():
        return np.asarray(free, np.float64)
    rows: list[list[float]] = coupling.tolist()
    wanted: list[float] = target.tolist()
    beta = [0.0] * len(wanted)
    for _ in range(_SWEEPS):
        largest_step = 0.0
        for i, row in enumerate(rows):
            others = sum(q * b for q, b in zip(row, beta, strict=True)) - row[i] * beta[i]
            value = max(0.0, (wanted[i] - others) / row[i]) if row[i] > 0 else 0.0
            largest_step = max(largest_step, abs(value - beta[i]))
            beta[i] = value
        if largest_step < _CONVERGED:
            break
    return np.array(beta)
