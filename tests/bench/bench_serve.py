"""This service beside what a user would otherwise write, and beside a bare onnxruntime loop.

    python tests/bench/bench_serve.py [--models resnet50] [--peers litserve,mlserver] [--seconds 15]
    python tests/bench/bench_serve.py --quick
    python tests/bench/bench_serve.py --runtimes [--models efficientnet_lite0]

Same networks, machine and JPEGs in one run; a load generator in a process of its own: closed loop
at 1, 4, 16 and 64 callers, open loop at 50, 80 and 120 % of each server's capacity, which is its
best throughput in the closed loops. Peers are installed on the way, each in an environment of its
own under build/peers. Writes build/bench/serve.json and .png, prints tables and the marks.

--runtimes compares onnxruntime and OpenVINO in each precision that this machine serves, in turns,
and no peer.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from serve import marks, report, servers
from serve.environments import PeerMissing
from serve.materials import compared_bf16, jpegs, model, quantized

MODELS = ("resnet50", "efficientnet_lite0")
QUANTIZED = ("efficientnet_lite0",)  # trained weights, which int8 can be judged by
PHOTOGRAPHS = Path("../shared/photos")
WORK = Path("build/bench-serve")
HERE = Path(__file__).parent
CALLERS = (1, 4, 16, 64)
LOADS = (0.5, 0.8, 1.2)
DEADLINE_S = 10.0  # peers, slow as they are, shall answer in it
SHARE_TURNS, SHARE_CALLERS = 5, 16
ALONE_TURNS = 3
RUNTIME_TURNS, RUNTIME_CALLERS = 3, (1, 16)
OPENVINO = ("--providers", "openvino")
IDLE_LOAD = 0.7  # of the last minute


class Bench:
    """One run: keeps the choices and asks the load generator.

    Args:
        images: JPEG files.
        seconds: Of each level.
    """

    def __init__(self, images, seconds):
        self._images = [str(path) for path in images]
        self._seconds = seconds
        self.logs = WORK / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)

    def level(self, server, **load):
        """One level of load, by a process of its own."""
        plan = {
            "caller": server.caller, "address": server.address, "pid": server.pid,
            "images": self._images, "seconds": self._seconds, "timeout": DEADLINE_S,
            "warm_up": min(2.0, self._seconds / 4), **load,
        }  # fmt: skip
        found = self._process(["serve.load"], plan)
        report.show_level(found)
        return found

    def floor(self, subject):
        """The bare loop, by batch size."""
        words = ["serve.floor", str(subject.backbone), str(self._seconds / 2)]
        return self._process(words, self._images)

    def _process(self, words, given):
        paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, "-m", *words], input=json.dumps(given), capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            timeout=self._seconds * 10 + 300, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{words[0]} failed:\n{done.stderr[-3000:]}")
        return json.loads(done.stdout)


def contest(bench, server):
    """All levels of one server: closed loops, then open loops at shares of its capacity."""
    closed = [bench.level(server, concurrency=count) for count in CALLERS]
    capacity = max(level["throughput"] for level in closed)
    loads = {f"{load:.0%}": bench.level(server, rate=load * capacity) for load in LOADS}
    if calm := loads["80%"]["latency_ms"]:
        patience = marks.OVERLOAD_RATIO * calm["p99"] / 1000
        loads[marks.IMPATIENT] = bench.level(server, rate=1.2 * capacity, timeout=patience)
    return {"closed": closed, "open": loads, "capacity": capacity}


def alone(bench, subject, server):
    """One caller at the service and at one that does not batch, in turns: the levels of both."""
    flags = ("--max-batch", "1", "--max-delay-ms", "0")
    with servers.textcam(subject, bench.logs / "unbatched.log", *flags) as unbatched:
        found = {"batched": [], "unbatched": []}
        for _ in range(ALONE_TURNS):
            for name, one in (("batched", server), ("unbatched", unbatched)):
                found[name].append(bench.level(one, concurrency=1))
    return found


def beside(bench, subject, server):
    """The bare loop and the service in turns, pair by pair: a machine's moods meet both."""
    turns = []
    for _ in range(SHARE_TURNS):
        bare = max(turn["throughput"] for turn in bench.floor(subject))
        served = bench.level(server, concurrency=SHARE_CALLERS)["throughput"]
        turns.append({"floor": bare, "served": served})
    return turns


def hurried(bench, subject, contested):
    """Calm and overloaded, where nobody waits longer than one in 100 does when it is calm."""
    if not (calm := contested["open"]["80%"]["latency_ms"]):
        return {}
    log, limit = bench.logs / f"max-wait-{subject.name}.log", f"{calm['p99']:.0f}"
    with servers.textcam(subject, log, "--max-wait-ms", limit) as server:
        rate = contested["capacity"]
        return {f"{load:.0%}": bench.level(server, rate=load * rate) for load in LOADS[1:]}


def variants(subject):
    """Other runtimes and precisions that this machine serves: model and flags, by name."""
    kept = ("--engine-cache", str(WORK / "engines"))
    found = {"OpenVINO fp32": (subject, (*OPENVINO, *kept))}
    smaller = quantized(subject, WORK, PHOTOGRAPHS) if subject.name in QUANTIZED else None
    if smaller is None:
        print(f"*** {subject.name} is not measured in int8 ***", file=sys.stderr)
    else:
        found["int8"] = (smaller, ())
        found["OpenVINO int8"] = (smaller, (*OPENVINO, *kept))
    if compared_bf16(subject, WORK / "engines", PHOTOGRAPHS):
        found["OpenVINO bf16"] = (subject, (*OPENVINO, *kept, "--precision", "bf16"))
    else:
        print(f"*** {subject.name} is not measured in bf16 ***", file=sys.stderr)
    return found


def by_variant(bench, subject):
    """Closed loops of each variant, by name."""
    found = {}
    for name, (own, flags) in variants(subject).items():
        log = bench.logs / f"{name.replace(' ', '-')}-{subject.name}.log"
        print(name)
        with servers.textcam(own, log, *flags) as server:
            found[name] = [bench.level(server, concurrency=count) for count in CALLERS]
    return found


def runtimes(bench, subject):
    """Start and closed loops of onnxruntime in fp32 and each variant, in turns: by name."""
    arms = {"onnxruntime fp32": (subject, ()), **variants(subject)}
    found = {name: [] for name in arms}
    for turn in range(RUNTIME_TURNS):
        for name, (own, flags) in arms.items():
            print(f"{name}, turn {turn + 1}", flush=True)
            began = time.monotonic()
            with servers.textcam(own, bench.logs / "runtime.log", *flags) as server:
                start = time.monotonic() - began
                levels = [bench.level(server, concurrency=count) for count in RUNTIME_CALLERS]
            found[name].append({"start_s": start, "levels": levels})
    return found


def visit(bench, subject, peers):
    """Everything about one network."""
    print(f"\n{subject.name}\n{report.LEVEL_HEAD}", flush=True)
    floors = [bench.floor(subject)]
    with servers.textcam(subject, bench.logs / f"textcam-{subject.name}.log") as server:
        found = {"textcam": contest(bench, server)}
        pairs = beside(bench, subject, server)
        lonely = alone(bench, subject, server)
    bounded = hurried(bench, subject, found["textcam"])
    others = by_variant(bench, subject)
    missing = {}
    for name in peers:
        log = bench.logs / f"{name}-{subject.name}.log"
        with loudly(name, missing), servers.peer(name, subject, WORK, log) as server:
            found[name] = contest(bench, server)
    # Before and after: a machine that slowed down must not flatter the servers.
    floors.append(bench.floor(subject))
    best = [max(turns, key=lambda turn: turn["throughput"]) for turns in zip(*floors, strict=True)]
    agreement = report.agreement(found)
    return {
        "floor": best, "servers": found, "beside_floor": pairs, "alone": lonely,
        "max_wait": bounded, "variants": others, "missing": missing,
        "same_class_as_textcam": agreement,
    }  # fmt: skip


@contextmanager
def loudly(name, missing):
    """Note a peer that cannot be installed, started or asked, and go on without it."""
    try:
        yield
    except (PeerMissing, RuntimeError, subprocess.SubprocessError) as error:
        missing[name] = str(error)
        print(f"\n*** {name} IS MISSING FROM THIS RUN ***\n{error}\n", file=sys.stderr, flush=True)


def quick(bench):
    """A slice in seconds: this service and the floor, Lite0; and a server that must refuse."""
    subject = model("efficientnet_lite0", WORK)
    print(report.LEVEL_HEAD)
    floor = bench.floor(subject)
    with servers.textcam(subject, bench.logs / "quick.log") as server:
        closed = [bench.level(server, concurrency=count) for count in (1, 8)]
        capacity = max(level["throughput"] for level in closed)
        calm = bench.level(server, rate=max(capacity / 2, 1.0))
    # Two requests in work at most, and sixteen callers: whatever the machine's speed, some must go.
    cramped = ("--max-concurrent", "2")
    with servers.textcam(subject, bench.logs / "cramped.log", *cramped) as server:
        crowded = bench.level(server, concurrency=16)
    return {"floor": floor, "closed": closed, "open": calm, "crowded": crowded}


def machine():
    return {
        "date": date.today().isoformat(),
        "cpus": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--peers", default=",".join(servers.PEERS), help="empty: none")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each level")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runtimes", action="store_true", help="compare runtimes alone")
    parser.add_argument("--output", type=Path, default=None, help="JSON; the chart goes beside it")
    chosen = parser.parse_args()
    output = chosen.output or Path(
        f"build/bench/serve{'-quick' * chosen.quick}{'-runtimes' * chosen.runtimes}.json"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine()}
    if found["machine"]["load_before"] > IDLE_LOAD:
        print("*** other work runs on this machine: what follows is noise ***", file=sys.stderr)
    images = jpegs(WORK / "jpegs")
    if chosen.quick:
        found |= quick(Bench(images, 1.5))
        output.write_text(json.dumps(found, indent=2) + "\n")
        return
    if chosen.runtimes:
        bench = Bench(images, chosen.seconds)
        for name in chosen.models.split(","):
            found[name] = runtimes(bench, model(name, WORK))
            report.show_runtimes(name, found[name])
        output.write_text(json.dumps(found, indent=2) + "\n")
        return
    bench, peers = Bench(images, chosen.seconds), list(filter(None, chosen.peers.split(",")))
    found["models"] = {}
    for name in chosen.models.split(","):
        found["models"][name] = visit(bench, model(name, WORK), peers)
        found["marks"] = marks.judge(found["models"])
        output.write_text(json.dumps(found, indent=2) + "\n")
    report.show(found)
    report.draw(found, output.with_suffix(".png"))


if __name__ == "__main__":
    main()
