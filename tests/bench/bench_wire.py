"""Two checkouts of this service beside each other: throughput and CPU time per request.

    python tests/bench/bench_wire.py --before ../before [--after .] [--rounds 7] [--seconds 10]

Serves EfficientNet-Lite0 from each checkout in turns, the order swapped from round to round, each
server started anew. 16 callers, a closed loop, by each checkout's own stubs: Explain of a JPEG,
ModelInfer of a JPEG, and ModelInfer of four images' pixels. Prints, for each kind, the ratio
after / before of requests per second and of the server's CPU seconds per request: the geometric
mean over the rounds, with a 95 % interval by bootstrap over rounds. Writes wire.json in --work.

A checkout needs its generated stubs; the packages are those of this Python. Run it on an idle
machine: the load generator takes its part of the same cores.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from serve.materials import jpegs

HERE = Path(__file__).parent
KINDS = ("explain", "infer", "infer-pixels")
SERVE = "import sys; from textcam_service.cli import main; sys.exit(main())"
RESAMPLED = 10_000


def surroundings(checkout, *further):
    parts = [*further, *(checkout / part for part in ("client", "protos", "service"))]
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(part.resolve()) for part in parts)}


@contextmanager
def serving(checkout, backbone, log):
    """A server of a checkout: its address and process id."""
    flags = ["--backbone", str(backbone), "--port", "0", "--metrics-port", "-1"]
    with log.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, "serve", *flags],
            stdout=subprocess.PIPE, stderr=written, text=True, env=surroundings(checkout),
        )  # fmt: skip
    try:
        found = re.search(r" on (\S+:\d+)", process.stdout.readline())
        if found is None:
            raise RuntimeError(f"{checkout} does not serve:\n{log.read_text()[-2000:]}")
        yield found.group(1), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def load(checkout, plan):
    done = subprocess.run(
        [sys.executable, "-m", "serve.wire_load"], input=json.dumps(plan), capture_output=True,
        text=True, env=surroundings(checkout, HERE), check=False, timeout=plan["seconds"] + 120,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the load failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout)


def turn(checkout, images, options):
    """The figures of one server, by kind."""
    with serving(checkout, options.backbone.resolve(), options.work / "server.log") as (
        address,
        pid,
    ):
        plan = {
            "address": address, "pid": pid, "images": images, "callers": options.callers,
            "seconds": options.seconds, "warm_up": options.warm_up,
        }  # fmt: skip
        return {kind: load(checkout, plan | {"kind": kind}) for kind in options.kinds}


def measures(found):
    """Requests per second, and CPU milliseconds per request."""
    if not found["requests"]:
        raise RuntimeError(f"no request was answered: {found}")
    return (
        found["requests"] / found["seconds"],
        1000 * found["server_cpu_s"] / found["requests"],
    )


def interval(logarithms, rng):
    """Geometric mean of ratios, and its 95 % interval by bootstrap over rounds."""
    drawn = rng.choice(logarithms, (RESAMPLED, len(logarithms))).mean(axis=1)
    return [float(np.exp(own)) for own in (logarithms.mean(), *np.quantile(drawn, (0.025, 0.975)))]


def report(rounds, kinds):
    rng, summary = np.random.default_rng(0), {}
    print(f"\n{'':14}{'':>9}{'before':>10}{'after':>10}{'ratio':>9}   95 % interval")
    for kind in kinds:
        sides = {
            side: np.array([measures(own[side][kind]) for own in rounds])
            for side in ("before", "after")
        }
        for column, name in enumerate(("per second", "CPU ms")):
            before, after = sides["before"][:, column], sides["after"][:, column]
            ratio, low, high = interval(np.log(after / before), rng)
            summary[f"{kind} {name}"] = {"ratio": ratio, "low": low, "high": high}
            print(
                f"{kind:14}{name:>9}{np.median(before):10.2f}{np.median(after):10.2f}"
                f"{ratio:9.4f}   {low:.4f} to {high:.4f}"
            )
        failed = {side: sum(own[side][kind]["failed"] for own in rounds) for side in sides}
        if any(failed.values()):
            print(f"{kind:14}failed: {failed}")
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, default=Path())
    parser.add_argument("--backbone", type=Path, default=Path("build/backbone"))
    parser.add_argument("--work", type=Path, default=Path("build/bench-wire"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=3.0)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=KINDS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    images = [str(path.resolve()) for path in jpegs(options.work / "jpegs")]
    sides, rounds = {"before": options.before, "after": options.after}, []
    for number in range(options.rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        rounds.append({side: turn(sides[side], images, options) for side in order})
        shown = ", ".join(
            f"{kind} {measures(rounds[-1]['before'][kind])[0]:.1f} > "
            f"{measures(rounds[-1]['after'][kind])[0]:.1f} /s"
            for kind in options.kinds
        )
        print(f"round {number + 1} of {options.rounds}: {shown}", flush=True)
    made = {"rounds": rounds, "summary": report(rounds, options.kinds)}
    (options.work / "wire.json").write_text(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
