"""All channel directions of a large layer, against scikit-learn's LDA in a loop.

D = 2048 channels, E = 512, N = 50,000 images, M = 100. The loop is timed on 50 channels.
"""

import json
import resource
import time
from pathlib import Path

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from textcam_service.core.concepts.channel_embeddings import (
    ChannelSettings,
    channel_directions,
    extreme_samples,
)

IMAGES, CHANNELS, DIMENSIONS, SAMPLES, LOOPED = 50_000, 2048, 512, 100, 50


def main() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((IMAGES, DIMENSIONS), dtype=np.float32)
    embeddings[:, :8] *= 5
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = embeddings @ rng.standard_normal((DIMENSIONS, CHANNELS), dtype=np.float32)
    scores += 0.5 * rng.standard_normal((IMAGES, CHANNELS), dtype=np.float32)
    np.maximum(scores - 1.5, 0, out=scores)

    started = time.perf_counter()
    settings = ChannelSettings("lda", SAMPLES, None, remove_common=False)
    mine = channel_directions(scores, embeddings, settings).embeddings
    ours = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    low, high = extreme_samples(scores, SAMPLES)
    labels = [0] * SAMPLES + [1] * SAMPLES
    cosines = []
    started = time.perf_counter()
    for channel in range(LOOPED):
        data = np.concatenate([embeddings[low[channel]], embeddings[high[channel]]])
        oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        weights = oracle.fit(data.astype(np.float64), labels).coef_[0]
        cosines.append(float(weights @ mine[channel] / np.linalg.norm(weights)))
    loop = (time.perf_counter() - started) / LOOPED * CHANNELS
    report = {
        "seconds": round(ours, 2),
        "scikit_learn_seconds_extrapolated": round(loop, 1),
        "ratio": round(loop / ours, 1),
        "peak_gib": round(peak, 2),
        "lowest_cosine": min(cosines),
    }
    for key, value in report.items():
        print(f"{key:<36}{value}")
    output = Path("build/bench/bank.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
