"""Audits of many images by a real server: rate beside a bare stream's, memory, and kill -9.

    python tests/bench/bench_audit_run.py [--images 10000] [--turns 5] [--each 1000] [--kills 5]

Cuts photographs of scikit-image into --images different JPEG files in folders of the classes that
the model predicts, one in ten in another's. Then, with a server of build/backbone beside it:

- in turns, audits of --each images and a bare stream of explain_many with the very same requests,
  whose answers are dropped: the rate of the audit as a share of the stream's;
- one audit of all images: resident memory of its process after a fifth of them and at the end;
- the same audit, killed by -9 --kills times and started again: its files beside the first one's.
"""

import argparse
import filecmp
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import audit_process
from processes import PHOTOS, running
from textcam_client import Client
from textcam_client.options import Contrast, Targeted

PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
ALIKE = {
    "max_phrases": 8,
    "include_channel_evidence": True,
    "heatmap": "none",
    "include_groups": False,
    "lane": "audit",
    "concurrency": 16,
    "timeout": 60.0,
}
_AUDIT = (
    "import sys; from textcam_client import Client; from textcam_client.audit import audit\n"
    "with Client(sys.argv[1]) as client: audit(client, sys.argv[2], sys.argv[3])"
)


def cut(count):
    """Encoded crops of the photographs, no two equal."""
    whole = [Image.open(PHOTOS / name).convert("RGB") for name in PICTURES]
    rng = np.random.default_rng(0)
    for number in range(count):
        image = whole[number % len(whole)]
        side = int(rng.uniform(0.5, 0.95) * min(image.size))
        left, top = (int(rng.uniform(0, extent - side)) for extent in image.size)
        crop = image.crop((left, top, left + side, top + side)).resize((320, 320))
        crop.putpixel((0, 0), (number % 256, number // 256 % 256, 0))
        path = f"{number:06}.jpg"
        yield path, crop


def plant(client, root, count):
    """Write the images into folders by prediction; return (path, label, prediction) of each."""
    source = root / "all"
    source.mkdir()
    names = []
    for name, crop in cut(count):
        crop.save(source / name, quality=85)
        names.append(name)
    images = ((source / name).read_bytes() for name in names)
    with client.explain_many(images, heatmap="none", max_phrases=1) as results:
        predicted = [result.predictions[0].class_name for result in results]
    rng = np.random.default_rng(1)
    classes = sorted(set(predicted))
    rows = []
    for name, own in zip(names, predicted, strict=True):
        label = own if rng.random() < 0.9 else classes[rng.integers(len(classes))]
        path = root / "data" / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (source / name).rename(path)
        rows.append((path, label, own))
    return rows


def part(rows, root, name):
    """A data set of links to some rows."""
    folder = root / name
    for path, label, _ in rows:
        (folder / label).mkdir(parents=True, exist_ok=True)
        os.link(path, folder / label / path.name)
    return folder


def questions(rows):
    """The requests of an audit of the rows."""
    for path, label, own in rows:
        image = path.read_bytes()
        yield Targeted(image, label)
        if own != label:
            yield Targeted(image, Contrast(own, label))


def streamed(client, rows):
    """Seconds for a bare stream of the audit's requests, and their number."""
    started = time.perf_counter()
    with client.explain_many(questions(rows), **ALIKE) as results:
        count = sum(1 for _ in results)
    return time.perf_counter() - started, count


def judge_rate(client, rows, root, turns, each):
    ratios, used = [], []
    for turn in range(turns):
        own = rows[turn * each : (turn + 1) * each]
        data, output = part(own, root, f"part{turn}"), root / f"out{turn}"
        bare, count = streamed(client, own)
        started, cpu = time.perf_counter(), time.process_time()
        asked = audit_process.audited(client, str(data), output, segment_rows=50)
        seconds, busy = time.perf_counter() - started, time.process_time() - cpu
        assert asked is not None
        ratios.append(bare / seconds)
        used.append(1000 * busy / len(own))
        print(
            f"turn {turn}: {count} requests, stream {count / bare:.1f} a second, audit "
            f"{count / seconds:.1f}, share {bare / seconds:.3f}; "
            f"client's CPU {used[-1]:.2f} ms an image",
            flush=True,
        )
    print(f"rate of the audit as a share of the bare stream's: median {np.median(ratios):.3f}")
    print(f"client's CPU: median {statistics.median(used):.2f} ms an image")


def reached(output):
    """Rows whose records are safe: the first of the newest file of records."""
    names = [path.stem for path in (output / ".work" / "segments").glob("*.arrow")]
    return int(max(names, default=0))


def begun(address, data, output):
    return subprocess.Popen([sys.executable, "-c", _AUDIT, address, str(data), str(output)])


def memory_of(address, data, output, count):
    """Audit everything; print memory on the way."""
    started, process = time.perf_counter(), begun(address, data, output)
    own, seen = psutil.Process(process.pid), {}
    while process.poll() is None:
        done = reached(output)
        for share in (0.2, 0.4, 0.6, 0.8, 0.95):
            if share not in seen and done >= share * count:
                seen[share] = own.memory_info().rss / 2**20
        time.sleep(0.2)
    assert process.returncode == 0
    told = ", ".join(f"{share:.0%} {size:.0f}" for share, size in seen.items())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    print(
        f"{count} images in {time.perf_counter() - started:.0f} s; memory in MiB after {told}; at "
        f"most, with findings and report, {peak:.0f}",
        flush=True,
    )


def killed(address, data, output, count, kills):
    """The same audit, killed at even places."""
    for turn in range(kills):
        process, goal = begun(address, data, output), count * (turn + 1) // (kills + 1)
        while reached(output) < goal:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.05)
        process.kill()
        process.wait()
    assert begun(address, data, output).wait() == 0


def same(one, other):
    """Files of two folders that differ, or are in one alone."""
    names = {path.relative_to(root) for root in (one, other) for path in root.rglob("*")}
    files = [name for name in names if not (one / name).is_dir()]
    _, differ, missing = filecmp.cmpfiles(one, other, files, shallow=False)
    return len(files), sorted(map(str, (*differ, *missing)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--each", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=5)
    arguments = parser.parse_args()
    count = arguments.images
    with tempfile.TemporaryDirectory() as folder, running() as server:
        root = Path(folder)
        with Client(server.address) as client:
            rows = plant(client, root, count)
            wrong = np.mean([label != own for _, label, own in rows])
            print(f"{count} images, {wrong:.1%} of them under another label", flush=True)
            judge_rate(client, rows, root, arguments.turns, arguments.each)
        data, whole, resumed = root / "data", root / "whole", root / "resumed"
        memory_of(server.address, data, whole, count)
        if arguments.kills:
            killed(server.address, data, resumed, count, arguments.kills)
            files, differ = same(whole, resumed)
            print(f"killed by -9 {arguments.kills} times: of {files} files, differ: {differ}")


if __name__ == "__main__":
    main()
