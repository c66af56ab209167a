"""Whole audits through the public function."""

import json
import subprocess
import sys
import textwrap

import pytest
from audit_runs import contents, plant
from textcam_client.audit import DataOptions, Evaluation, FindingSettings, Policy, audit
from textcam_client.testing import serve_in_memory


@pytest.fixture(scope="module")
def server():
    with serve_in_memory() as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("data"), 60)


QUICK = Evaluation(settings=FindingSettings(permutations=50))


def test_an_audit_writes_all_its_files_and_concludes_the_same_again(server, data, tmp_path):
    output = tmp_path / "out"
    with server.client() as client:
        result = audit(client, data, output, evaluation=QUICK)
        first, asked = contents(output), len(server.requests)
        again = audit(client, str(data), str(output), evaluation=QUICK)
    assert list(first) == [
        "audit.json", "failures.csv", "findings.json", "findings.sarif", "findings.xml",
        "maps.parquet", "records.parquet", "report.html", "sprites/0000.webp",
    ]  # fmt: skip
    assert contents(output) == first
    assert len(server.requests) == asked
    assert again.summary == result.summary
    stored = json.loads(first["audit.json"])
    assert stored["summary"]["counts"]["rows"] == 60 == result.summary.counts["rows"]
    assert stored["summary"]["accuracy"]["value"] == pytest.approx(result.summary.accuracy.value)


def test_limits_that_are_broken_are_told(server, data, tmp_path):
    policy = Policy(min_accuracy=0.99)
    with server.client() as client:
        result = audit(
            client,
            data,
            tmp_path / "out",
            evaluation=Evaluation(policy, settings=QUICK.settings, report=False),
        )
    assert any("policy asks for 0.99" in sentence for sentence in result.broken)
    assert not (tmp_path / "out" / "report.html").exists()
    assert not (tmp_path / "out" / "maps.parquet").exists()


def test_unlabelled_images_make_a_report_as_well(server, tmp_path):
    data = plant(tmp_path / "data", 2)
    with server.client() as client:
        result = audit(
            client, data, tmp_path / "out", options=DataOptions(flat=True), evaluation=QUICK
        )
    assert result.summary.accuracy is None
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("package", ["pyarrow", "statsmodels"])
def test_a_missing_package_is_told_with_the_extra(package):
    program = """
        import importlib.machinery, sys
        absent, found = sys.argv[1], importlib.machinery.PathFinder.find_spec
        def find_spec(name, path=None, target=None):
            return None if name == absent else found(name, path, target)
        importlib.machinery.PathFinder.find_spec = find_spec
        import textcam_client
        import textcam_client.audit
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"audits need the package {package}: pip install 'textcam-service[audit]'" in done.stderr


def test_the_client_itself_stays_light():
    program = "import sys, textcam_client; print('pyarrow' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
