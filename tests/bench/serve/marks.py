"""The marks that the service is held to, and whether a run reached them."""

from statistics import median

FLOOR_SHARE = {"resnet50": 0.90, "efficientnet_lite0": 0.75}
PEER_RATIO = {"resnet50": 4.0}
OVERLOAD_RATIO = 1.5
REFUSAL_MS = 50.0
ALONE_RATIO = 1.15
IMPATIENT = "120%, impatient"  # callers whose deadline is 1.5 times p99 at 80 %


def judge(models):
    """A list of {"mark", "found", "wanted", "reached"}; a mark without figures is not listed."""
    return [one for name, found in models.items() for one in _of_model(name, found)]


def _of_model(name, found):
    own = found["servers"]["textcam"]
    if name in FLOOR_SHARE:
        share = median(turn["served"] / turn["floor"] for turn in found["beside_floor"])
        yield _at_least(f"{name}: share of the bare loop's throughput", share, FLOOR_SHARE[name])
    peers = [one["capacity"] for peer, one in found["servers"].items() if peer != "textcam"]
    if name in PEER_RATIO and peers:
        ratio = own["capacity"] / max(peers)
        yield _at_least(f"{name}: times the best peer's throughput", ratio, PEER_RATIO[name])
    yield from _overload(name, own["open"])
    if found["max_wait"]:
        yield from _overload(f"{name}, max_wait_ms as p99 at 80%", found["max_wait"])
    levels = [*own["closed"], *own["open"].values(), *found["max_wait"].values()]
    patient = [one for one in levels if one is not own["open"].get(IMPATIENT)]
    silent = sum(one["whole_level"]["hung"] + one["whole_level"]["late"] for one in patient)
    yield _at_most(f"{name}: requests without an answer in ten seconds", silent, 0)
    wrong = sum(one["whole_level"]["failed"] + one["whole_level"]["stray"] for one in levels)
    yield _at_most(f"{name}: failed or another image's answers", wrong, 0)
    slowest = [one["refusal_ms"]["max"] for one in levels if one["refusal_ms"]]
    if slowest:
        yield _at_most(f"{name}: slowest refusal, ms", max(slowest), REFUSAL_MS)
    yield _at_most(f"{name}: one caller's latency, of unbatched", alone(found), ALONE_RATIO)


def _overload(name, loads):
    calm = loads["80%"]["latency_ms"]
    for load in ("120%", IMPATIENT):
        busy = loads.get(load, {}).get("latency_ms")
        if calm and busy:
            ratio = busy["p99"] / calm["p99"]
            yield _at_most(f"{name}: p99 at {load}, of that at 80%", ratio, OVERLOAD_RATIO)


def alone(found):
    """Median latency of one caller, batched over unbatched, each the best of its turns."""
    best = {
        kind: min(level["latency_ms"]["p50"] for level in levels)
        for kind, levels in found["alone"].items()
    }
    return best["batched"] / best["unbatched"]


def _at_least(mark, found, wanted):
    return {"mark": mark, "found": found, "wanted": f">= {wanted}", "reached": found >= wanted}


def _at_most(mark, found, wanted):
    return {"mark": mark, "found": found, "wanted": f"<= {wanted}", "reached": found <= wanted}
