"""A day in production, rehearsed: what deploy/ ships, under load, rolled, and one replica starved.

Three servers are started with what Dockerfile and manifests say (day_release), behind haproxy,
scraped by Prometheus with the shipped rules in a shorter time. No caller sees an error.
"""

import asyncio
import re
import shutil
import time

import pytest
import yaml
from day_books import DayLedger, Edition
from day_pods import Deployment, restarts
from day_prometheus import prometheus, scaled
from day_proxy import proxy
from day_release import release
from deployed import the
from fault_callers import under_load
from fault_processes import until
from fault_world import build_world
from textcam_service.scenes.world import vocabulary

MISSING = [name for name in ("haproxy", "prometheus") if not shutil.which(name)]
# Ranges, intervals and `for` of the rules, and the scrape interval, are so many times shorter:
# a replica that is away for 5 minutes is told of after 15 s. Probes and graces stay as they are.
FACTOR = 20
# What says how fast this machine is, not whether the service is well.
OF_SPEED = {"TextcamQueueWait", "TextcamSlowAnswers", "TextcamSlowStage", "TextcamRefusals"}
STARVED = "TextcamReplicaDown"


@pytest.fixture(scope="module")
def next_world(tmp_path_factory):
    """Of another network, and of words that the first has not: a phrase tells its bundle."""
    phrases = [f"just {phrase}" for phrase in vocabulary()[::4]]
    return build_world(tmp_path_factory.mktemp("next"), "scenes:biased", phrases)


def seen(condition, seconds, what):
    """Wait in a thread, beside the callers; the seconds that it took."""
    return asyncio.to_thread(until, condition, seconds, what)


async def rolled(day, release, books, figures):
    """From one bundle to the next; afterwards nobody hears of the first any more."""
    assert all(set(ledger.answers) == {"scenes-1"} for ledger in books)
    started = time.monotonic()
    await asyncio.to_thread(day.roll, release)
    figures["roll"] = round(time.monotonic() - started, 1)
    # Answers that came earlier may wait in a caller's stream for those before them.
    await asyncio.sleep(1)
    before = [dict(ledger.answers) for ledger in books]
    await asyncio.sleep(2)
    for ledger, count in zip(books, before, strict=True):
        assert ledger.answers["scenes-1"] == count["scenes-1"]
        assert ledger.answers["scenes-2"] > count["scenes-2"]


async def starved_and_fed(day, front, watch, books, figures):
    """One replica's node stands still until the alert fires, and goes on until it is clear."""
    pod = day.pods[0]
    alert = f"{STARVED} {pod.name}"
    assert alert not in watch.alerts()
    served = f'sum(textcam_requests_total{{pod="{pod.name}",code="OK"}})'
    pod.starve()
    down = await seen(lambda: front.health(pod).startswith("DOWN"), 30, "haproxy takes it out")
    answered = [ledger.answers.total() for ledger in books]
    fires = await seen(lambda: watch.alerts().get(alert) == "firing", 60, "the alert fires")
    for ledger, count in zip(books, answered, strict=True):
        assert ledger.answers.total() > count, "the others carry the load"
    pod.feed()
    clear = await seen(lambda: alert not in watch.alerts(), 30, "the alert clears")
    up = await seen(lambda: front.health(pod) == "UP", 30, "haproxy takes it back")
    before = await asyncio.to_thread(watch.value, served)
    await seen(lambda: watch.value(served) > before, 30, "it answers again")
    found = {"out": down, "alert": down + fires, "clear": clear, "back": clear + up}
    figures |= {f"{what} after": round(took, 1) for what, took in found.items()}


@pytest.mark.skipif(
    bool(MISSING), reason=f"NOT TESTED: not installed: {', '.join(MISSING)} (Debian's packages)"
)
async def test_a_day_in_production(world, next_world, figures, tmp_path):
    first = release(tmp_path / "first", world.folder, "scenes-1")
    second = release(tmp_path / "second", next_world.folder, "scenes-2")
    editions = [Edition("scenes-1", world), Edition("scenes-2", next_world)]
    books = [DayLedger(editions) for _ in range(3)]
    readiness = first.server["readinessProbe"]
    with proxy(readiness, tmp_path) as front, prometheus(first, FACTOR, tmp_path) as watch:
        day = Deployment(first, tmp_path, front.follow, watch.follow)
        try:
            started = time.monotonic()
            await asyncio.to_thread(day.start)
            figures["start"] = round(time.monotonic() - started, 1)
            # Until then no replica answers, which in a shorter time is told of at once.
            await seen(lambda: not watch.alerts(), 30, "all is quiet")
            opened = time.monotonic()
            async with under_load(front.address, *books, pause=0.05):
                await asyncio.sleep(3)
                await rolled(day, second, books, figures)
                await starved_and_fed(day, front, watch, books, figures)
            figures["fired"] = sorted(watch.fired(time.monotonic() - opened))
        finally:
            day.close()
    for kind, ledger in zip(("unary", "streamed", "threaded"), books, strict=True):
        figures[kind] = ledger.settle() | dict(ledger.answers)
    assert [dict(ledger.failures) for ledger in books] == [{}, {}, {}]
    assert restarts(day.every) == {}
    assert set(figures["fired"]) - OF_SPEED == {STARVED}


def mistype_a_flag(server, settings):
    server["args"] = ["serve", "--max-bach", "8"]


def name_a_folder_that_is_not_mounted(server, settings):
    settings["TEXTCAM_BANK"] = "/model/bank"


def leave_out_the_bank(server, settings):
    del settings["TEXTCAM_BANK"]


def leave_out_the_volume(server, settings):
    server["volumeMounts"] = [one for one in server["volumeMounts"] if one["name"] != "models"]


def listen_where_nobody_asks(server, settings):
    settings["TEXTCAM_PORT"] = "50052"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (mistype_a_flag, "No such option"),
        (name_a_folder_that_is_not_mounted, "/model/bank"),
        (leave_out_the_bank, "was built for backbone"),
        (leave_out_the_volume, "/models/bank/bank.json"),
        (listen_where_nobody_asks, "does not start: serving"),
    ],
)
def test_a_release_that_is_wrong_does_not_start(spoil, said, world, tmp_path, monkeypatch):
    """So that a start in the rehearsal says something of what is shipped."""
    monkeypatch.setattr("day_pods.LONGEST_START_S", 8)
    spoilt = release(tmp_path / "release", world.folder, "scenes-1", replicas=1)
    pod = spoilt.the("Deployment")["spec"]["template"]["spec"]
    (configured,) = (source["configMapRef"] for source in pod["containers"][0]["envFrom"])
    spoil(pod["containers"][0], spoilt.the("ConfigMap", configured["name"])["data"])
    day = Deployment(spoilt, tmp_path, lambda pod: None, lambda pods: None)
    try:
        with pytest.raises(AssertionError, match=said):
            day.start()
    finally:
        day.close()


def test_the_rules_are_the_shipped_ones_but_for_their_times():
    groups = the("PrometheusRule", "cpu")["spec"]["groups"]
    whole = yaml.safe_dump(groups, width=10_000)
    quick = yaml.safe_dump(scaled(groups, FACTOR), width=10_000)
    spans = re.compile(r"\[\w+\]|(?:for|keep_firing_for|interval): \w+\n *")
    assert spans.sub("", quick) == spans.sub("", whole)
    told = {"3000ms", "6000ms", "9000ms", "15000ms", "30000ms"}
    assert set(re.findall(r"for: (\w+)", quick)) == told
    assert set(re.findall(r"\[(\w+)\]", quick)) == {"15000ms", "30000ms", "6000ms"}
