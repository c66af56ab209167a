"""The container files: style, and what an image of the service would hold.

No container is built here. The one step that decides what is inside, `pip install` into
/opt/textcam, is taken out of the Dockerfile and run into a folder.
"""

import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import skimage
from deployed import DEPLOY, ROOT, tool
from dockerfile import image, stages
from textcam_client import Client
from textcam_service.version import __version__

DOCKERFILE = DEPLOY / "container" / "Dockerfile"
LIMIT_MB = 400


def instructions(stage):
    return stages(DOCKERFILE)[stage].instructions


def copy_context(folder):
    """What .dockerignore lets into the build."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines, "the list names what goes in"
    for name in (line[1:] for line in lines if line.startswith("!")):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def pip(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def serving_environment(tmp_path_factory):
    """The CPU image's /opt/textcam."""
    folder = tmp_path_factory.mktemp("image")
    probe = pip("download", "--no-deps", "-c", "constraints.txt", "-d", folder / "probe", "click")
    if probe.returncode:
        pytest.skip("NOT TESTED: the CPU image's packages, no package index can be reached")
    context, target = folder / "context", folder / "textcam"
    context.mkdir()
    copy_context(context)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", target], check=True)
    (step,) = (line for line in instructions("build-cpu") if line.startswith("RUN pip "))
    done = pip(*shlex.split(step.replace("/opt/textcam", str(target)))[2:], cwd=context)
    assert done.returncode == 0, done.stderr
    return target


def test_hadolint_finds_no_fault():
    files = sorted(DEPLOY.glob("container/*Dockerfile"))
    assert len(files) == 2
    done = subprocess.run(
        [tool("hadolint"), *files], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_images_run_as_nobody_and_hold_no_build_tools(target):
    """The final stages start from the bare base, and only the environment is copied in."""
    assert re.search(rf"^FROM runtime AS {target}$", DOCKERFILE.read_text(), re.MULTILINE)
    inside = [*instructions("runtime"), *instructions(target)]
    assert [line for line in inside if line.startswith("USER")] == ["USER 65532:65532"]
    assert not [line for line in inside if line.startswith("RUN")]
    copies = [line for line in inside if line.startswith("COPY")]
    assert copies == [f"COPY --from=build-{target} /opt/textcam /opt/textcam"]


def test_the_container_files_name_this_version():
    assert set(re.findall(r"textcam-service:([\d.]+\d)", DOCKERFILE.read_text())) == {__version__}


def test_the_loader_path_names_what_the_constraints_pin():
    """Of each CUDA library that onnxruntime-gpu needs, the folder that its wheel fills."""
    (path,) = (line for line in instructions("gpu") if "LD_LIBRARY_PATH" in line)
    pinned = re.findall(
        r"^nvidia-(\w+(?:-\w+)*)-cu12==", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
    assert {name.replace("-", "_") for name in pinned} == set(re.findall(r"/(\w+)/lib", path))


def test_the_serving_environment_is_small(serving_environment):
    size = sum(path.lstat().st_size for path in serving_environment.rglob("*"))
    assert size < LIMIT_MB * 1e6, f"{size / 1e6:.0f} MB"
    print(f"serving environment: {size / 1e6:.0f} MB")


def test_the_serving_environment_publishes_to_s3_and_reads_it(serving_environment, tmp_path):
    reason = "NOT TESTED: the image's s3:// stores, the extra 'dev' is not installed"
    server = pytest.importorskip("moto.server", reason=reason).ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/models", method="PUT"))
    bank = serving_environment.glob("lib/*/site-packages/textcam_service/data/photos")
    bundle = ["--backbone", ROOT / "build" / "backbone", "--bank", next(bank), "--version", "1"]
    try:
        for arguments, said in (
            (["publish", "photos", *bundle], "published photos@1, which is current\n"),
            (["list"], "* photos@1\n"),
        ):
            command = [serving_environment / "bin" / "textcam", "model", *arguments]
            done = subprocess.run(
                [*command, "--store", "s3://models/served"],
                capture_output=True,
                text=True,
                check=False,
                env=environment,
                cwd=tmp_path,
            )
            assert (done.stdout, done.stderr) == (said, "")
    finally:
        server.stop()


def test_the_serving_environment_serves(serving_environment, tmp_path):
    """With the image's variables and nothing else of this checkout but a model."""
    bundle = tmp_path / "models"
    shutil.copytree(ROOT / "build" / "backbone", bundle / "backbone")
    given = image(DOCKERFILE, "cpu").environment
    environment = {name: value for name, value in given.items() if name != "PATH"}
    environment["TEXTCAM_BACKBONE"] = given["TEXTCAM_BACKBONE"].replace("/models", str(bundle))
    environment |= {"TEXTCAM_HOST": "127.0.0.1", "TEXTCAM_PORT": "0", "TEXTCAM_METRICS_PORT": "0"}
    command = [serving_environment / "bin" / "textcam", "serve"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as server:
        try:
            line = server.stdout.readline()
            found = re.search(r" on (\S+:\d+)", line)
            assert found, f"the server did not start: {line!r}"
            with Client(found[1], timeout=60) as client:
                answer = client.explain(Path(skimage.__file__).parent / "data" / "chelsea.png")
            assert "cat" in answer.predictions[0].class_name
            assert answer.phrases
        finally:
            server.terminate()
            assert server.wait(30) == 0
