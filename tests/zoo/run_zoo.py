"""Export and explain many networks of torchvision and timm, and write down which work.

    python tests/zoo/run_zoo.py [--only NAME;NAME] [--minutes M]      (make test-zoo)

Seeded weights, with batch norms calibrated by random images: what is judged is the export's parity
with torch, that the maps' cells see their own part of the image, and that each method that the
backbone can answer gives a finite map that varies. Each network runs in a process of its own, with
limits on CPU time and memory.

Each row is kept as soon as it is there. An interrupted run goes on where it was when it is started
again; --minutes ends it so. --fresh begins anew. The page with the table is written at each end.
Maintainers keep both with `--page tests/zoo/RESULTS.md
--tried service/textcam_service/data/tried_networks.txt`: exports tell whether theirs is in it.
Exit status 1 where a network fails, 2 where networks are left to visit.
"""

import argparse
import datetime as dt
import json
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from zoo_networks import ALL

METHODS = (
    "cam", "grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "eigen_cam",
    "recipro_cam", "legrad",
)  # fmt: skip
SECONDS = 600  # of CPU time
WAIT = 3600
GIBIBYTES = 8
STATE = Path("build/bench/zoo.jsonl")
PAGE = Path("build/bench/zoo.md")
LIBRARIES = ("torch", "torchvision", "timm", "onnx", "onnxruntime")


def calibrated(network):
    """The network, its batch norms set by three batches of four random images.

    Seeded weights leave them at mean 0 and variance 1; in deep networks activations vanish then,
    and parity says nothing.
    """
    import torch

    size = network.preprocessing
    norms = [
        m for m in network.module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over the batches
        norm.train()
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(3 if norms else 0):
            network.module(torch.randn(4, 3, size.height, size.width, generator=chance))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.module.eval()
    return network


def is_its_own(note):
    """A note that not every network here has."""
    return not note.startswith("the classes are numbered") and "maps were tried" not in note


def option(text):
    return int(text) if text.isdecimal() else text


def visit(name):
    """One network, in this process: a row of the table."""
    import numpy as np
    from textcam_service.core.cam import saliency_map
    from textcam_service.core.methods import METHODS as KNOWN
    from textcam_service.core.methods import MethodInput, MethodSettings, run_method
    from textcam_service.offline.export.from_torch.export import export_network
    from textcam_service.offline.networks.loading import load_network
    from textcam_service.runtime.backbone import Backbone

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 60))
    resource.setrlimit(resource.RLIMIT_DATA, (GIBIBYTES << 30, GIBIBYTES << 30))
    known, *given = name.split()
    options = {key: option(value) for key, value in (one.split("=") for one in given)}
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        network = calibrated(load_network(known, "none", options))
        report = export_network(network, Path(folder) / "backbone")
        seconds = time.process_time() - started
        backbone = Backbone(Path(folder) / "backbone")
        size = backbone.manifest.preprocessing
        images = np.random.default_rng(0).normal(size=(2, 3, size.height, size.width))
        (one, _), image = backbone.forward(images.astype(np.float32)), images[0].astype(np.float32)
        weights = np.zeros(len(one.logits))
        weights[int(one.logits.argmax())] = 1
        linear = backbone.head_weights if backbone.is_linear else None
        inputs = MethodInput(one.activation_maps, one.logits, weights, image, linear, one.layers)
        ran = []
        for method in METHODS:
            if not KNOWN[method].needs <= backbone.capabilities:
                continue
            steps = KNOWN[method].queries(inputs, MethodSettings())
            terms = run_method(steps, lambda ask: backbone.query(ask, one))
            found = terms.saliency_map
            if found is None:
                found = saliency_map(terms.weights, one.activation_maps)
            if not np.isfinite(found).all() or not np.ptp(found) > 0:
                raise AssertionError(f"{method}: the map is constant or not finite")
            ran.append(method)
    channels, height, width = report.maps_shape
    return {
        "network": name,
        "target_layer": report.target_layer,
        "maps": f"{channels} x {height} x {width}",
        "head": report.head_kind,
        "methods": len(ran),
        "seconds": round(seconds, 1),
        "parity": max(report.logits_error, report.maps_error, report.gradient_error),
        "why": "; ".join(filter(None, (report.without, *filter(is_its_own, report.notes)))),
    }


def row_of(name):
    """visit() in a process of its own, which may die or hang."""
    command = [sys.executable, "-W", "ignore", __file__, "--visit", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)
    except subprocess.TimeoutExpired:
        return {"network": name, "fault": f"not done after {WAIT} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if done.returncode == -signal.SIGXCPU:
        return {"network": name, "fault": f"not done after {SECONDS} s of CPU time"}
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    reason = (lines or [f"exit status {done.returncode}"])[-1]
    return {"network": name, "fault": reason.rpartition("ExportRefused: ")[2][:300]}


def table(rows):
    lines = [
        "| network | target layer | maps | head | methods | CPU s | parity | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "fault" in row:
            fault = row["fault"].replace("|", r"\|")
            lines.append(f"| {row['network']} | - | - | - | 0 | - | - | {fault} |")
        else:
            cells = (
                row["network"], row["target_layer"], row["maps"], row["head"], row["methods"],
                row["seconds"], f"{row['parity']:.1e}", row["why"],
            )  # fmt: skip
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def page(rows, left):
    """The table, and what it came from."""
    worked = sum("fault" not in row for row in rows)
    days = sorted({row["date"] for row in rows})
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    rest = f" {len(left)} of the list are left to visit: {', '.join(left)}." if left else ""
    return f"""# Which networks work

{worked} of {len(rows)} networks export and explain.{rest}

`make test-zoo`, {" to ".join(dict.fromkeys((days[0], days[-1])))}, {processor()}, one thread;
{libraries}. Seeded weights, batch norms calibrated by random images.

- "methods": how many of {", ".join(METHODS)} the head can answer; each gave a finite map that
  varies.
- "parity": the largest error against torch, of logits, maps and gradients.
- "CPU s": time of loading and export on one thread.

{table(rows)}
"""


def architectures(rows):
    """Names of those that work, without the constructor's options."""
    return sorted({row["network"].split()[0] for row in rows if "fault" not in row})


def processor():
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()


def kept(state, names):
    """Rows of an earlier run, by name; a last line that was cut off is left out."""
    rows = {}
    for line in state.read_text().splitlines() if state.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["network"]] = row
    return {name: rows[name] for name in names if name in rows}


def read_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="NAME;NAME", help="visit these alone")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin none after that")
    parser.add_argument("--fresh", action="store_true", help="visit all again")
    parser.add_argument("--state", type=Path, default=STATE, help="rows so far")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write")
    parser.add_argument("--tried", type=Path, help="list to write of architectures that work")
    parser.add_argument("--visit", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    arguments = read_arguments()
    if arguments.visit:
        print(json.dumps(visit(arguments.visit)))
        return
    names = arguments.only.split(";") if arguments.only else ALL
    for path in (arguments.state, arguments.page):
        path.parent.mkdir(parents=True, exist_ok=True)
    if arguments.fresh:
        arguments.state.unlink(missing_ok=True)
    rows = kept(arguments.state, names)
    print(f"{len(rows)} of {len(names)} networks were visited before", flush=True)
    end = time.monotonic() + 60 * arguments.minutes
    for name in names:
        if name in rows or time.monotonic() > end:
            continue
        rows[name] = {**row_of(name), "date": dt.date.today().isoformat()}
        with arguments.state.open("a") as file:
            file.write("\n" + json.dumps(rows[name]))  # a line that was cut off stays alone
        print(rows[name], flush=True)
    left = [name for name in names if name not in rows]
    text = page([rows[name] for name in names if name in rows], left)
    arguments.page.write_text(text)
    if arguments.tried:
        listed = architectures(rows[name] for name in names if name in rows)
        arguments.tried.write_text("".join(f"{name}\n" for name in listed))
    print(text)
    sys.exit(2 if left else any("fault" in row for row in rows.values()))


if __name__ == "__main__":
    main()
