"""This build beside another checkout's, served in turns: throughput, latency, processor time.

    python tests/bench/bench_builds.py BEFORE [--models efficientnet_lite0] [--turns 5]

BEFORE is a folder with another version of the repository, such as a git worktree. Both serve the
same network on loopback at the same time, and are asked in turns by the load generator of
bench_serve: 16 callers, then one. Ratios are medians over the turns. The bare loop, in the same
turns, tells what of the processor time is the network's.
"""

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench_serve import WORK, Bench
from serve import servers
from serve.materials import jpegs, model

HERE = Path(__file__).resolve().parents[2]
CALLERS = (16, 1)


def importing(checkout):
    """Environment in which Python imports a checkout's packages."""
    paths = [str(checkout.resolve() / part) for part in ("client", "protos", "service")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def visit(bench, subject, builds, turns):
    """Print a network's figures for each number of callers, and the ratios."""
    with ExitStack() as stack:
        serving = {
            name: stack.enter_context(
                servers.textcam(subject, bench.logs / f"{name}.log", environment=importing(folder))
            )
            for name, folder in builds.items()
        }
        found = {(name, callers): [] for name in serving for callers in CALLERS}
        bare = []
        for turn in range(turns):
            bare.append(min(own["server_cpu_ms"] for own in bench.floor(subject)))
            for callers in CALLERS:
                for name in sorted(serving, reverse=bool(turn % 2)):
                    level = bench.level(serving[name], concurrency=callers)
                    found[name, callers].append(level)
    print(f"\n{subject.name}: the bare loop takes {median(bare):.2f} ms of processor time an image")
    for callers in CALLERS:
        before, after = (found[name, callers] for name in ("before", "after"))
        for word, own in (("requests a second", _rate), ("p50, ms", _p50), ("CPU, ms", _cpu)):
            pairs = [(own(one), own(other)) for one, other in zip(before, after, strict=True)]
            ratios = [there / here for here, there in pairs]
            one, other = (median(values) for values in zip(*pairs, strict=True))
            told = " ".join(f"{ratio:.2f}" for ratio in ratios)
            print(
                f"{callers:3} callers  {word:18} {one:8.2f} {other:8.2f}  "
                f"ratio {median(ratios):.3f}  ({told})"
            )


def _rate(level):
    return level["throughput"]


def _p50(level):
    return level["latency_ms"]["p50"]


def _cpu(level):
    return level["server_cpu_ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("--models", default="efficientnet_lite0")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each level")
    chosen = parser.parse_args()
    bench = Bench(jpegs(WORK / "jpegs"), chosen.seconds)
    for name in chosen.models.split(","):
        builds = {"before": chosen.before, "after": HERE}
        visit(bench, model(name, WORK), builds, chosen.turns)


if __name__ == "__main__":
    main()
