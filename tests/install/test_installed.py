"""The wheel as its users install it, without constraints.txt: with the newest of everything that
it depends on, and with the lowest versions that pyproject.toml allows. Each serves and explains.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
import skimage
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
BACKBONE = ROOT / "build" / "backbone"
CAT = Path(skimage.__file__).parent / "data" / "chelsea.png"
EXTRAS = ("openvino", "service", "tracing")  # s3 brings thousands of files
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What a user's own pip would not have, a developer's may: constraints of the environment.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PIP_CONSTRAINT")}
# Where the lowest versions have wheels: the lowest Python, or one near it.
PYTHONS = ("3.10", "3.11", "3.12")


def pip(*words, python=sys.executable):
    command = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    return subprocess.run(
        [*command, *words], capture_output=True, text=True, check=False, env=CLEAN, timeout=600
    )


def needed(*extras):
    """What the wheel asks for; of extras that ask for extras of its own, what those ask for."""
    optional = PROJECT["optional-dependencies"]
    given = list(PROJECT["dependencies"])
    for extra in extras:
        given += optional[extra]
    for requirement in map(Requirement, given):
        if requirement.name == PROJECT["name"]:
            yield from needed(*requirement.extras)
        else:
            yield requirement


def lowest(requirement):
    bounds = [one.version for one in requirement.specifier if one.operator in (">=", "==")]
    assert len(bounds) == 1, f"'{requirement}' does not say its lowest version"
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return f"{requirement.name}=={bounds[0]}{marker}"


def interpreter(version):
    """A Python of that version, also one of pyenv's; None if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    for path in filter(None, found):
        command = [path, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        if said.stdout.strip() == version:
            return str(path)
    return None


@dataclass(frozen=True)
class Installed:
    """An environment of its own with the wheel and what that brought."""

    folder: Path

    def __call__(self, command, *words):
        done = self.run(command, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, command, *words):
        return subprocess.run(
            [self.folder / "bin" / command, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,  # not the checkout, whose packages are not those of the wheel
            env=CLEAN,
            timeout=120,
        )

    def versions(self):
        listed = json.loads(pip("list", "--format=json", python=self.folder / "bin/python").stdout)
        return {one["name"].lower().replace("_", "-"): one["version"] for one in listed}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    probe = pip("download", "--no-deps", "-d", folder / "probe", "hatchling")
    if probe.returncode:
        pytest.skip("NOT TESTED: installing the wheel, no package index can be reached")
    done = pip("wheel", "--quiet", "--no-deps", "-w", folder, ROOT)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("textcam_service-*.whl")
    return made


@contextmanager
def environment(folder, python, *words):
    folder.mkdir()
    try:
        subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
        for _ in range(3):  # what an index answers may break off
            done = pip("install", "--quiet", "--no-compile", *words, python=folder / "bin/python")
            if done.returncode == 0 or "ResolutionImpossible" in done.stderr:
                break
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        yield Installed(folder)
    finally:
        shutil.rmtree(folder)  # 500 MB


@pytest.fixture(scope="module")
def newest(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("newest") / "environment"
    with environment(folder, sys.executable, f"{wheel}[{','.join(EXTRAS)}]") as installed:
        yield installed


@pytest.fixture(scope="module")
def oldest(wheel, tmp_path_factory):
    python = next(filter(None, map(interpreter, PYTHONS)), None)
    assert python, f"the lowest versions have wheels for Python {', '.join(PYTHONS)} alone"
    folder = tmp_path_factory.mktemp("lowest")
    pins = folder / "pins.txt"
    pins.write_text("\n".join(map(lowest, needed(*EXTRAS))))
    words = ("-c", pins, f"{wheel}[{','.join(EXTRAS)}]")
    with environment(folder / "environment", python, *words) as installed:
        yield installed


@pytest.fixture(scope="module")
def client_alone(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("client") / "environment"
    with environment(folder, sys.executable, wheel) as installed:
        yield installed


@contextmanager
def serving(installed, *more):
    """Its server, of the packaged bank; yields the addresses of gRPC, of /metrics and of health."""
    flags = ("--port", "0", "--metrics-port", "0", "--health-port", "0", *more)
    log = installed.folder / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [installed.folder / "bin/textcam", "serve", "--backbone", BACKBONE, *flags],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=installed.folder,
            env=CLEAN,
        ) as process,
    ):
        try:
            line = process.stdout.readline()
            found = re.search(r" on (\S+:\d+), metrics on (\d+), health on (\d+)", line)
            assert found, log.read_text()
            address, metrics, health = found.groups()
            yield address, f"http://127.0.0.1:{metrics}/metrics", f"127.0.0.1:{health}"
        finally:
            process.terminate()
            status = process.wait(30)
    assert status == 0
    said = log.read_text()
    assert "Traceback" not in said
    assert "Warning" not in said  # of what a dependency is about to drop


def assert_a_cat(answer):
    """A photograph of a cat, explained: the class, words for it, and shares that add up."""
    assert "cat" in answer["predictions"][0]["class_name"]
    (explained,) = answer["explanations"]
    assert any("cat" in phrase["text"] for phrase in explained["phrases"])
    parts = [group["evidence"] for group in (*explained["groups"], explained["rest"])]
    assert explained["bias"] + explained["gap"] + sum(parts) == pytest.approx(
        explained["logit"], abs=1e-3
    )


def explained(installed, address, *words):
    words = ("explain", CAT, "--server", address, "--wait", "30", "--json", *words)
    return json.loads(installed("textcam", *words))


def assert_it_works(installed, tmp_path):
    with serving(installed) as (address, metrics, health):
        assert_a_cat(explained(installed, address, "--output", tmp_path))
        assert (tmp_path / CAT.name).stat().st_size > 10_000
        with urlopen(metrics, timeout=30) as page:
            told = page.read().decode()
        assert re.search(r'^textcam_requests_total\{.*code="OK".*\} 1\.0$', told, re.MULTILINE)
        with grpc.insecure_channel(health) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert check(b"", timeout=30) == b"\x08\x01"  # SERVING
    with serving(installed, "--providers", "openvino") as (address, _, _):
        answer = explained(installed, address)
        assert_a_cat(answer)
        assert answer["provenance"]["execution_provider"] == "OpenVINO"
    # Traces, which a server without otlp_endpoint does not load.
    installed("python", "-c", "import textcam_service.serving.telemetry.otlp")


def test_the_newest_of_everything_serves_and_explains(newest, tmp_path):
    assert_it_works(newest, tmp_path)


def test_the_lowest_versions_that_are_allowed_serve_and_explain(oldest, tmp_path):
    found = oldest.versions()
    for pin in map(Requirement, map(lowest, needed("service"))):
        if pin.marker is None:
            name = pin.name.lower().replace(".", "-").replace("_", "-")
            assert pin.specifier.contains(found[name]), pin
    assert_it_works(oldest, tmp_path)


def test_what_was_installed_together_fits_together(newest, oldest):
    for installed in (newest, oldest):
        checked = pip("check", python=installed.folder / "bin/python")
        assert checked.returncode == 0, checked.stdout


def test_without_the_extra_offline_an_export_names_it_in_one_line(newest):
    assert not {"torch", "onnx", "timm"} & set(newest.versions())
    refused = newest.run("textcam", "export", "--output", "made")
    assert refused.returncode == 1
    assert "pip install 'textcam-service[offline]'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_the_base_install_explains_and_says_what_a_server_needs(client_alone, newest):
    assert "onnxruntime" not in client_alone.versions()
    with serving(newest) as (address, _, _):
        assert_a_cat(explained(client_alone, address))
    refused = client_alone.run("textcam", "serve")
    assert refused.returncode == 1
    assert "pip install 'textcam-service[service]'" in refused.stderr
