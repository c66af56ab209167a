"""A run in tables, and in one picture."""

from statistics import median

import matplotlib as mpl

mpl.use("Agg")  # before pyplot

from matplotlib import pyplot as plt

NAMES = {
    "textcam": "TextCAM service", "litserve": "LitServe + grad-cam",
    "bentoml": "BentoML + grad-cam", "mlserver": "MLServer + grad-cam",
}  # fmt: skip
COLOURS = {
    "textcam": "#0b5fa5", "litserve": "#e07b39", "bentoml": "#6a9f58", "mlserver": "#8e6bb0",
}  # fmt: skip
_COLUMNS = (
    ("server", -10), ("load", 12), ("req/s", 8), ("p50 ms", 9), ("p95", 9), ("p99", 9), ("ok", 7),
    ("refused", 8), ("slowest", 9), ("late", 6), ("failed", 7), ("stray", 6), ("hung", 5),
    ("CPU ms", 8), ("own", 6), ("MiB", 7),
)  # fmt: skip
LEVEL_HEAD = "".join(f"{name:{'<' if width < 0 else '>'}{abs(width)}}" for name, width in _COLUMNS)


def show_level(level):
    """One row of the table, as it comes."""
    closed = level["concurrency"]
    load = f"{closed} callers" if closed else f"{level['offered']:.1f}/s"
    latency, refusal = level["latency_ms"] or {}, level["refusal_ms"] or {}
    print(
        f"{level['caller']:<10}{load:>12}{level['throughput']:>8.1f}"
        f"{_ms(latency, 'p50'):>9}{_ms(latency, 'p95'):>9}{_ms(latency, 'p99'):>9}{level['ok']:>7}"
        f"{level['refused']:>8}{_ms(refusal, 'max'):>9}{level['late']:>6}{level['failed']:>7}"
        f"{level['stray']:>6}{level['hung']:>5}{level['server_cpu_ms']:>8.1f}"
        f"{level['generator_cpu_ms']:>6.1f}{level['memory_mib']:>7.0f}",
        flush=True,
    )
    for error, count in level["errors"]:
        if level["failed"]:
            print(f"    {count} x {error[:200]}")


def _ms(spread, which):
    return f"{spread[which]:.1f}" if which in spread else "-"


def agreement(servers):
    """Share of the images to which each peer gives the service's class."""
    own = servers["textcam"]["closed"][0]["classes"]
    return {
        name: sum(a == b for a, b in zip(own, one["closed"][0]["classes"], strict=True)) / len(own)
        for name, one in servers.items()
        if name != "textcam"
    }


def show(found):
    """What the run comes to, as Markdown."""
    for name, one in found["models"].items():
        print(f"\n{name}\n")
        print("| | requests/s | CPU ms/request | MiB | p50, p99 ms alone | p50, p99 ms of 16 |")
        print("|---|---|---|---|---|---|")
        for floor in one["floor"]:
            print(
                f"| bare loop, batch {floor['batch']} | {floor['throughput']:.1f} | "
                f"{floor['server_cpu_ms']:.1f} | {floor['memory_mib']:.0f} | "
                f"{_both(floor['latency_ms']) if floor['batch'] == 1 else '-'} | - |"
            )
        for server, levels in one["servers"].items():
            best = max(levels["closed"], key=lambda level: level["throughput"])
            of = {level["concurrency"]: level for level in levels["closed"]}
            print(
                f"| {NAMES[server]} | {levels['capacity']:.1f} | {best['server_cpu_ms']:.1f} | "
                f"{best['memory_mib']:.0f} | {_both(of[1]['latency_ms'])} | "
                f"{_both(of[16]['latency_ms'])} |"
            )
        for variant, levels in one["variants"].items():
            best = max(levels, key=lambda level: level["throughput"])
            print(
                f"| {NAMES['textcam']}, {variant} | {best['throughput']:.1f} | "
                f"{best['server_cpu_ms']:.1f} | {best['memory_mib']:.0f} | "
                f"{_both(levels[0]['latency_ms'])} | {_both(levels[2]['latency_ms'])} |"
            )
        for missing in one["missing"]:
            print(f"| {NAMES[missing]} | MISSING | | | | |")
        for peer, share in one["same_class_as_textcam"].items():
            print(f"{NAMES[peer]} gives the same class for {share:.0%} of the images")
    print("\n| mark | wanted | found | |\n|---|---|---|---|")
    for mark in found["marks"]:
        reached = "reached" if mark["reached"] else "MISSED"
        print(f"| {mark['mark']} | {mark['wanted']} | {mark['found']:.2f} | {reached} |")


def _both(latency):
    return f"{latency['p50']:.0f}, {latency['p99']:.0f}" if latency else "-"


def show_runtimes(name, found):
    """Medians over the turns of each runtime, as Markdown."""
    print(f"\n{name}\n\n| | start s | p50 ms alone | requests/s of 16 | CPU ms/request | MiB |")
    print("|---|---|---|---|---|---|")
    for runtime, turns in found.items():
        alone, many = zip(*(turn["levels"] for turn in turns), strict=True)
        print(
            f"| {runtime} | {median(turn['start_s'] for turn in turns):.1f} | "
            f"{median(level['latency_ms']['p50'] for level in alone):.1f} | "
            f"{median(level['throughput'] for level in many):.1f} | "
            f"{median(level['server_cpu_ms'] for level in many):.1f} | "
            f"{median(level['memory_mib'] for level in many):.0f} |"
        )


def draw(found, path):
    """Throughput and latency by callers, and latency by offered load, a row per model."""
    models = found["models"]
    figure, rows = plt.subplots(
        len(models), 3, figsize=(12, 3.4 * len(models)), squeeze=False, layout="constrained"
    )
    for axes, (name, one) in zip(rows, models.items(), strict=True):
        for server, levels in one["servers"].items():
            _draw_server(axes, levels, {"color": COLOURS[server], "label": NAMES[server]})
        floor = max(one["floor"], key=lambda turn: turn["throughput"])
        label = "bare onnxruntime loop"
        axes[0].axhline(floor["throughput"], color="black", ls="--", lw=1, label=label)
        _dress(axes, name)
    rows[0, 0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_server(axes, levels, style):
    callers = [level["concurrency"] for level in levels["closed"]]
    axes[0].plot(callers, [level["throughput"] for level in levels["closed"]], "o-", **style)
    shares = {"50%": 50, "80%": 80, "120%": 120}
    for quantile, dash in (("p50", "o:"), ("p99", "o-")):
        for place, x, series in (
            (1, callers, levels["closed"]),
            (2, list(shares.values()), [levels["open"][share] for share in shares]),
        ):
            y = [(level["latency_ms"] or {}).get(quantile, float("nan")) for level in series]
            axes[place].plot(x, y, dash, **style)


def _dress(axes, name):
    titles = ("requests per second", "latency, ms: p99 (solid), p50", "the same, open loop")
    for place, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        axis.set_title(f"{name}: {title}", fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        if place < 2:
            axis.set_xscale("log", base=2)
            axis.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
            axis.set_xlabel("callers, closed loop")
        else:
            axis.set_xticks([50, 80, 120])
            axis.set_xlabel("offered load, % of each server's own capacity")
        if place:
            axis.set_yscale("log")
    axes[0].set_ylim(bottom=0)
