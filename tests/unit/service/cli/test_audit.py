"""`textcam audit`: options, exit status, and output."""

import json
import re

import pytest
from audit_runs import plant
from commands import run
from textcam_client.testing import serve_in_memory


@pytest.fixture(scope="module")
def server():
    with serve_in_memory() as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("data"), 40, ("tabby cat", "zebra"))


def audit(server, data, output, *words):
    return run("audit", data, "--server", server.address, "--out", output, "--quiet", *words)


def test_an_audit_says_what_it_found_and_where(server, data, tmp_path):
    code, said = audit(server, data, tmp_path / "out")
    assert code == 0
    assert "40 of 40 images answered by fake 1, 0 failed" in said
    assert "label 'zebra' of 20 rows is no class of the model" in said
    assert re.search(r"accuracy 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\) of 20 labelled images", said)
    assert f"{tmp_path / 'out' / 'report.html'}" in said


def test_a_broken_limit_is_exit_status_3(server, data, tmp_path):
    limits = tmp_path / "banned.toml"
    limits.write_text("[limits]\nmin_accuracy = 1.0\n")
    code, said = audit(server, data, tmp_path / "out", "--fail-on", limits, "--no-report")
    assert (code, "asks for 1" in said) == (3, True)
    assert not (tmp_path / "out" / "report.html").exists()
    document = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert document["passed"] is False


def test_the_policys_classes_are_held_against_the_models(server, data, tmp_path):
    limits = tmp_path / "banned.toml"
    limits.write_text('[classes."tabby cta"]\nbanned = ["fur"]\n')
    code, said = audit(server, data, tmp_path / "out", "--fail-on", limits, "--no-report")
    assert (code, "no class 'tabby cta': do you mean 'tabby cat'?" in said) == (1, True)
    limits.write_text('[classes.GOLDFISH]\nbanned = ["fur"]\n')
    code, said = audit(server, data, tmp_path / "out", "--fail-on", limits, "--no-report")
    assert code in {0, 3}
    assert "note: The policy has lists for classes without an image in the statistics" in said


def test_an_audit_of_other_data_is_no_comparison(server, data, tmp_path):
    other = plant(tmp_path / "other", 2, ("goldfish",))
    audit(server, other, tmp_path / "before", "--no-report")
    code, said = audit(server, data, tmp_path / "out", "--against", tmp_path / "before")
    assert (code, "has no row of" in said) == (1, True)


def test_options_of_the_data_set_and_the_run_arrive(server, data, tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text(f"file,kind,light,id\n{data}/zebra/0001.png,daisy,day,1\n")
    words = (
        "--paths",
        "file",
        "--labels",
        "kind",
        "--slices",
        "light",
        "--floor",
        "0.1",
        "--seed",
        "7",
    )
    code, _ = audit(server, listed, tmp_path / "out", *words, "--no-report")
    audited = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert code == 0
    assert audited["data"]["slices"] == ["light"]
    assert audited["settings"]["floor"] == 0.1
    assert audited["summary"]["settings"]["seed"] == 7
    assert audited["summary"]["counts"]["unknown_labels"] == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nowhere"], 1, "there is no data set at nowhere: no such file or folder"),
        (["{data}", "--version", "9"], 1, "'9'"),
        (["{data}", "--floor", "1"], 2, "Invalid value for '--floor'"),
        (["{data}", "--concurrency", "0"], 2, "Invalid value for '--concurrency'"),
        (["{data}", "--method", "magic"], 2, "magic"),
        (["{data}", "--fail-on", "{data}/bad.toml"], 2, "cannot be read as a policy"),
        (["{data}", "--fail-on", "{data}/nothing.toml"], 2, "name one or more kinds of finding"),
        (["{data}", "--against", "{data}"], 1, "holds no finished audit"),
    ],
)
def test_faults_are_told_in_words(server, data, tmp_path, words, status, said):
    (data / "bad.toml").write_text("limits = [")
    (data / "nothing.toml").write_text("[limits]\nkinds = []")
    words = [word.format(data=data) for word in words]
    code, told = audit(server, *words[:1], tmp_path / "out", *words[1:])
    assert (code, said in told) == (status, True), told
