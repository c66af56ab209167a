"""What became of the requests of one level of load, in numbers."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

OUTCOMES = ("ok", "refused", "late", "failed", "stray", "hung")
_SAME = 0.02  # of a map's largest value; batches differ by rounding only


@dataclass
class Record:
    """One request: monotonic seconds when it was due, sent and over, and how it ended."""

    due: float
    sent: float
    done: float = 0.0
    outcome: str = "hung"
    retry_after: float | None = None
    error: str = ""
    stages: dict = field(default_factory=dict)


class References:
    """Each image's answer when it was asked alone."""

    def __init__(self, answers):
        self._classes = [answer.class_index for answer in answers]
        self._maps = [_scaled(answer.saliency_map) for answer in answers]

    @property
    def classes(self):
        return self._classes

    @property
    def distinct(self):
        """How many images have an answer like no other's: only those can be told from it."""
        return sum(
            all(self._differ(one, other) for other in range(len(self._maps)) if other != one)
            for one in range(len(self._maps))
        )

    def belongs(self, answer, index):
        """Whether an answer is that of the image `index`."""
        near = np.abs(_scaled(answer.saliency_map) - self._maps[index]).max() <= _SAME
        return bool(near) and answer.class_index == self._classes[index]

    def _differ(self, one, other):
        apart = np.abs(self._maps[one] - self._maps[other]).max() > _SAME
        return bool(apart) or self._classes[one] != self._classes[other]


def _scaled(saliency_map):
    return saliency_map / max(float(np.abs(saliency_map).max()), 1e-12)


def summary(level, meter, references):
    """A level's figures; milliseconds, requests per second, MiB.

    In a closed loop, requests count that end in the measured window; in an open loop, those that
    were due in it, answered in it or not. Throughput counts right answers in the window.
    """
    plan, begin, end = level.plan, level.begin, level.end
    closed = plan.concurrency > 0
    counted = [r for r in level.records if begin <= (r.done if closed else r.due) < end]
    counted += [r for r in level.records if closed and r.outcome == "hung"]
    answered = [r for r in level.records if r.outcome == "ok" and begin <= r.done < end]
    refused = [r for r in counted if r.outcome == "refused"]
    outcomes = Counter(r.outcome for r in counted)
    per_request = 1000 / max(len(answered), 1)
    return {
        "caller": plan.caller,
        "concurrency": plan.concurrency,
        "offered": plan.rate,
        "timeout_s": plan.timeout,
        "seconds": plan.seconds,
        "throughput": len(answered) / plan.seconds,
        "requests": len(counted),
        **{name: outcomes[name] for name in OUTCOMES},
        "latency_ms": spread([r.done - r.due for r in counted if r.outcome == "ok"]),
        "refusal_ms": spread([r.done - r.due for r in refused]),
        "generator_lag_ms": spread([r.sent - r.due for r in counted]),
        "server_cpu_ms": meter.server_cpu * per_request,
        "generator_cpu_ms": meter.own_cpu * per_request,
        "memory_mib": meter.memory_mib,
        "stages_ms": _stages(answered),
        "distinct_images": references.distinct,
        "images": len(references.classes),
        "classes": references.classes,
        "whole_level": _whole(level.records),
        "errors": _errors(counted),
    }


def _errors(records):
    """The most frequent, first of all those of what failed."""
    failed = Counter(r.error for r in records if r.outcome == "failed")
    others = Counter(r.error for r in records if r.error and r.outcome != "failed")
    return failed.most_common(3) + others.most_common(3)


def _whole(records):
    """Every request, those outside the measured window too: what must hold of each of them."""
    outcomes = Counter(r.outcome for r in records)
    hints = sum(r.retry_after is not None for r in records if r.outcome == "refused")
    return {**{name: outcomes[name] for name in OUTCOMES}, "refused_with_hint": hints}


def spread(seconds):
    """Quantiles in milliseconds; None where there is nothing."""
    if not seconds:
        return None
    values = np.asarray(seconds) * 1000
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return {"p50": p50, "p95": p95, "p99": p99, "mean": values.mean(), "max": values.max()}


def _stages(answered):
    names = dict.fromkeys(name for r in answered for name in r.stages)
    return {name: np.mean([r.stages.get(name, 0.0) for r in answered]) * 1000 for name in names}
