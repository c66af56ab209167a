"""Threads follow the container's quota, not the host's cores."""

import os

import pytest
from textcam_service.runtime.cpus import cpu_quota, usable_cpus

CPUS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "quota"),
    [("max 100000\n", None), ("150000 100000\n", 1.5), ("50000 100000\n", 0.5), ("nonsense", None)],
)
def test_cgroup_v2(tmp_path, text, quota):
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(("text", "quota"), [("-1", None), ("200000", 2.0), ("25000", 0.25)])
def test_cgroup_v1(tmp_path, text, quota):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(text)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path) == quota


def test_no_control_group_means_the_affinity(tmp_path):
    assert cpu_quota(tmp_path) is None
    assert usable_cpus(tmp_path) == CPUS


def test_a_quota_rounds_up_and_never_adds_cpus(tmp_path):
    (tmp_path / "cpu.max").write_text("10000 100000")
    assert usable_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text(f"{(CPUS + 7) * 100000} 100000")
    assert usable_cpus(tmp_path) == CPUS
