"""Bank building: all channel directions of a large layer, and whole banks beside another checkout.

    python tests/bench/bench_bank.py
    python tests/bench/bench_bank.py --before ../before --images ../shared/photos --counts 200 800

The first form times D = 2048 channels, E = 512, N = 50,000 images, M = 100 against scikit-learn's
LDA in a loop, which is timed on 50 channels.

The second runs `textcam bank build` of another checkout and of this one in turns, on the first
images of the folders: of this one with an empty cache folder, and again with the filled one. It
tells seconds, processor seconds and memory, and how far the banks are apart. With --each N, only
the extraction of N images is timed, twice in each process.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from textcam_service.artefacts.bank import read_bank
from textcam_service.core.concepts.channel_embeddings import (
    ChannelSettings,
    channel_directions,
    extreme_samples,
)
from textcam_service.offline.dataset import ImageFolder

IMAGES, CHANNELS, DIMENSIONS, SAMPLES, LOOPED = 50_000, 2048, 512, 100, 50
HERE = Path(__file__).parents[2]
OUTPUT = Path("build/bench")
EXTRACTION = """
import sys, time
from pathlib import Path
from textcam_service.offline.banks.extract import extract
from textcam_service.offline.dataset import ImageFolder
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.runtime.backbone import Backbone

folder, threads, images, work = sys.argv[1:]
backbone = Backbone(Path(folder), threads=int(threads))
embedder, paths = load_embedder("packaged"), ImageFolder.find([Path(images)])
extract(paths[:16], backbone, embedder, Path(work) / "first")  # loads what is loaded once
for name, some in (("first", paths[16:len(paths) // 2]), ("second", paths[len(paths) // 2:])):
    seconds, own = time.perf_counter(), time.process_time()
    extract(some, backbone, embedder, Path(work) / name)
    seconds, own = time.perf_counter() - seconds, time.process_time() - own
    print(1e3 * seconds / len(some), 1e3 * own / len(some))
"""
BUILD = "import sys; from textcam_service.cli import main; main(sys.argv[1:])"


def directions():
    """Seconds, memory and agreement of the directions of random scores."""
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
    return {
        "seconds": round(ours, 2),
        "scikit_learn_seconds_extrapolated": round(loop, 1),
        "ratio": round(loop / ours, 1),
        "peak_gib": round(peak, 2),
        "lowest_cosine": min(cosines),
    }


def build(checkout, backbone, images, output, cache):
    """Seconds, processor seconds and peak MiB of one `textcam bank build`."""
    packages = (str(checkout / part) for part in ("service", "client", "protos"))
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    environment["PYTHONPATH"] = os.pathsep.join(packages)
    arguments = ["bank", "build", "--backbone", backbone, "--images", images, "--output", output]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, *map(str, arguments)],
        env=environment,
        cwd=output.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"the build of {checkout} ended with {process.returncode}"
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mib": round(used.ru_maxrss / 2**10),
    }


def image_cost(checkout, backbone, images, work, *, threads):
    """Milliseconds and processor milliseconds an image of the extraction, twice in one process."""
    packages = (str(checkout / part) for part in ("service", "client", "protos"))
    environment = {**os.environ, "XDG_CACHE_HOME": str(work / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join(packages)
    with tempfile.TemporaryDirectory(dir=work) as chunks:
        arguments = map(str, (backbone, threads, images, chunks))
        done = subprocess.run(
            [sys.executable, "-c", EXTRACTION, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    return [[round(float(own), 1) for own in line.split()] for line in done.stdout.splitlines()]


def costs(before, folders, count, turns, backbone):
    """Cost of an image, in turns, as the command line runs each checkout's backbone."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        images = linked(ImageFolder.find(folders)[: count + 16], work / "images")
        report = {"before": [], "now": []}
        for _ in range(turns):
            for row, checkout, threads in (("before", before, 0), ("now", HERE, 1)):
                if checkout is not None:
                    found = image_cost(checkout, backbone, images, work, threads=threads)
                    print(f"{row:<7} ms and processor ms an image: {found}", flush=True)
                    report[row].append(found)
    return report


def linked(paths, folder):
    """A folder of links to images."""
    folder.mkdir()
    for place, path in enumerate(paths):
        (folder / f"{place:05}{path.suffix}").symlink_to(path.resolve())
    return folder


def apart(one, other):
    """Largest differences between two banks of the same phrases and channels."""
    first, second = read_bank(one), read_bank(other)
    assert first.vocabulary.phrases == second.vocabulary.phrases
    directions_ = [artefact.bank.channel_embeddings for artefact in (first, second)]
    supports = [artefact.bank.supports.supports for artefact in (first, second)]
    texts = [artefact.vocabulary.embeddings for artefact in (first, second)]
    return {
        "lowest_cosine_of_directions": float((directions_[0] * directions_[1]).sum(axis=1).min()),
        "directions": float(np.abs(directions_[0] - directions_[1]).max()),
        "supports": float(np.abs(supports[0] - supports[1]).max()),
        "phrases": float(np.abs(texts[0] - texts[1]).max()),
    }


def builds(before, folders, counts, turns, backbone):
    """Builds in turns, for each number of images, with the banks' differences."""
    paths = ImageFolder.find(folders)
    report = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            images = linked(paths[:count], work / "images")
            rows = {"before": [], "cold": [], "warm": []}
            for turn in range(turns):
                for row, found in rows.items():
                    checkout = before if row == "before" else HERE
                    if checkout is None:
                        continue
                    output = work / f"bank-{row}"
                    cache = work / ("cache-before" if row == "before" else f"cache-{turn}")
                    found.append(build(checkout, backbone, images, output, cache))
                    print(f"{count:>6} images  {row:<7} {found[-1]}", flush=True)
            report[count] = {row: found for row, found in rows.items() if found}
            if before is not None:
                report[count]["apart"] = apart(work / "bank-before", work / "bank-warm")
                print(f"{count:>6} images  apart   {report[count]['apart']}", flush=True)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="another checkout; without it, this one alone")
    parser.add_argument("--images", type=Path, nargs="+", default=[])
    parser.add_argument("--counts", type=int, nargs="+", default=[200, 800])
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--each", type=int, default=0, help="images whose cost is told; 0: builds")
    parser.add_argument("--backbone", type=Path, default=HERE / "build" / "backbone")
    given = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    if given.images:
        before = given.before and given.before.resolve()
        backbone = given.backbone.resolve()
        if given.each:
            report = costs(before, given.images, given.each, given.turns, backbone)
        else:
            report = builds(before, given.images, given.counts, given.turns, backbone)
        (OUTPUT / "bank_builds.json").write_text(json.dumps(report, indent=2) + "\n")
        return
    report = directions()
    for key, value in report.items():
        print(f"{key:<36}{value}")
    (OUTPUT / "bank.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
