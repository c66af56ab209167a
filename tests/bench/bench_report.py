"""Size, first paint, filter and memory of an audit's report in headless Chromium.

    python tests/bench/bench_report.py [--rows 10000] [--repeats 5] [--keep report.html]

Writes a synthetic audit of --rows images (thumbnails of about two kilobytes, 300 phrases, 24
concepts an image) and opens it from disk. Prints a table; each time is the median of --repeats
fresh browsers. Needs playwright, and Chromium at /usr/bin/chromium or in $CHROMIUM.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from audit_pages import CLASSES, CONCEPTS, page_rows, picture, summary_of
from textcam_client.audit.report.page import write_report

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PHRASES = 300
NOISE = 11.0
LIMITS = {
    "file, MB": 30,
    "first contentful paint, s": 1,
    "slowest filter, ms": 50,
    "memory of the page's process, MB": 400,
}
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
FILTERS = {
    "label": {"label": "otter"},
    "wrong": {"state": "wrong"},
    "slice": {"slice:light": "night", "predicted": "1"},
    "name": {"q": "night/0"},
    "concept": {"concept": "dry grass", "least": "0.8"},
    "order by concept": {"concept": "whiskers", "sort": "concept"},
    "order by probability": {"sort": "probability"},
    "order by name": {"sort": "name"},
    "all": {},
}


def written(path, count):
    """Write the report; return the seconds that it took."""
    concepts = CONCEPTS + tuple(f"phrase number {number}" for number in range(PHRASES))
    rows = page_rows(count, concepts=concepts, evidence_count=40, maps=range(0, count, 50))
    rng = np.random.default_rng(0)
    pictures = [picture(row.label_index or 0, rng, noise=NOISE) for row in rows]
    print(f"thumbnails of {np.mean([len(own) for own in pictures]):.0f} bytes")
    summary = summary_of(rows, concepts=concepts)
    started = time.perf_counter()
    write_report(path, summary, rows, pictures.__getitem__, CLASSES)
    return time.perf_counter() - started


def busy(session):
    """Milliseconds of processor time that the page's main thread has used."""
    found = session.send("Performance.getMetrics")["metrics"]
    return 1000 * next(own["value"] for own in found if own["name"] == "TaskDuration")


def filtered(page, session, wanted):
    """Milliseconds of a filter: to the painted list, its own, and processor time of all of it."""
    before = busy(session)
    whole, own = page.evaluate(
        """async wanted => {
            const query = new URLSearchParams(wanted);
            const done = new Promise(
                resolve => addEventListener("hashchange", resolve, {once: true}));
            const hash = `#images?${query}&n=${Math.random()}`;
            const started = performance.now();
            location.hash = hash;
            await done;
            await new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));
            return [performance.now() - started, Number(document.documentElement.dataset.filterMs)];
        }""",
        wanted,
    )
    return whole, own, busy(session) - before


def renderers():
    """Resident megabytes of the largest renderer below this process."""
    sizes = [
        child.memory_info().rss
        for child in psutil.Process().children(recursive=True)
        if "--type=renderer" in " ".join(child.cmdline())
    ]
    return max(sizes, default=0) / 1e6


def measured(path):
    """Figures of one fresh browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        started = time.perf_counter()
        page.goto(f"file://{path}", wait_until="commit")
        page.wait_for_function(f"({PAINT}) !== null")
        paint = page.evaluate(PAINT) / 1000
        page.wait_for_selector("html[data-ready]")
        ready = time.perf_counter() - started
        page.evaluate("location.hash = '#images'")
        page.wait_for_selector("#grid .cell")
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        times = {name: filtered(page, session, wanted) for name, wanted in FILTERS.items()}
        for step in range(12):
            page.evaluate(
                "part => { const g = document.getElementById('grid');"
                " g.scrollTop = g.scrollHeight * part }",
                step / 12,
            )
            page.wait_for_timeout(60)
        heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
        memory = renderers()
        browser.close()
    return paint, ready, times, heap, memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="where to leave the report")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = (options.keep or Path(folder) / "report.html").resolve()
        seconds = written(path, options.rows)
        runs = [measured(path) for _ in range(options.repeats)]
        size = path.stat().st_size / 1e6
    paints, readies, filters, heaps, memories = zip(*runs, strict=True)
    middle = {
        name: [statistics.median(run[name][part] for run in filters) for part in range(3)]
        for name in FILTERS
    }
    figures = {
        "file, MB": size,
        "written in, s": seconds,
        "first contentful paint, s": statistics.median(paints),
        "all views ready, s": statistics.median(readies),
        "slowest filter, ms": max(own for _, own, _ in middle.values()),
        "slowest filter with paint, ms": max(whole for whole, _, _ in middle.values()),
        "the same, processor time, ms": max(own for _, _, own in middle.values()),
        "memory of scripts, MB": statistics.median(heaps),
        "memory of the page's process, MB": statistics.median(memories),
    }
    print(f"{options.rows:,} images, median of {options.repeats}\n")
    for name, value in figures.items():
        limit = LIMITS.get(name)
        verdict = "" if limit is None else f"  limit {limit}{'' if value < limit else '  TOO MUCH'}"
        print(f"{name:36}{value:10.2f}{verdict}")
    for name, (whole, own, used) in middle.items():
        print(
            f"  filter {name:27}{own:10.2f} ms, {whole:.1f} ms with paint, {used:.1f} ms processor"
        )
    return any(figures[name] >= limit for name, limit in LIMITS.items())


if __name__ == "__main__":
    sys.exit(main())
