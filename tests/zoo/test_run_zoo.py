"""Runs of the zoo that are interrupted and go on."""

import json
import sys
from pathlib import Path

import pytest
import run_zoo
from textcam_service.offline.export.tried_networks import TRIED


@pytest.fixture
def visited(monkeypatch):
    """The networks that are visited; "b" fails."""
    names = []

    def row_of(name):
        names.append(name)
        if name == "b":
            return {"network": name, "fault": "no layer | fits"}
        return {
            "network": name, "target_layer": "last", "maps": "8 x 7 x 7", "head": "gradient",
            "methods": 6, "seconds": 1.5, "parity": 2e-7, "why": "",
        }  # fmt: skip

    monkeypatch.setattr(run_zoo, "row_of", row_of)
    return names


def run(monkeypatch, folder, *options):
    given = ["run_zoo.py", f"--state={folder / 'rows'}", f"--page={folder / 'page'}", *options]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as ended:
        run_zoo.main()
    return int(ended.value.code), (folder / "page").read_text()


def test_a_run_goes_on_where_an_earlier_one_was_cut_off(visited, monkeypatch, tmp_path):
    run(monkeypatch, tmp_path, "--only=a;b")
    whole = (tmp_path / "rows").read_text()
    (tmp_path / "rows").write_text(whole[:-20])  # killed while it wrote b
    status, page = run(monkeypatch, tmp_path, "--only=a;b;c")
    assert visited == ["a", "b", "b", "c"]
    assert status == 1
    assert "2 of 3 networks export and explain.\n" in page
    assert "| a | last | 8 x 7 x 7 | gradient | 6 | 1.5 | 2.0e-07 |" in page
    rows = [json.loads(row) for row in (tmp_path / "rows").read_text().splitlines()[-2:]]
    assert [row["network"] for row in rows] == ["b", "c"]


def test_a_run_whose_time_is_up_names_what_is_left(visited, monkeypatch, tmp_path):
    run(monkeypatch, tmp_path, "--only=a")
    status, page = run(monkeypatch, tmp_path, "--only=a;c", "--minutes=-1")
    assert (visited, status) == (["a"], 2)
    assert "1 of 1 networks export and explain. 1 of the list are left to visit: c." in page


def test_a_fresh_run_visits_all_again(visited, monkeypatch, tmp_path):
    run(monkeypatch, tmp_path, "--only=a")
    assert run(monkeypatch, tmp_path, "--only=a", "--fresh")[0] == 0
    assert visited == ["a", "a"]


def test_a_fault_keeps_its_row_of_the_table_whole(visited, monkeypatch, tmp_path):
    _, page = run(monkeypatch, tmp_path, "--only=b")
    assert r"| b | - | - | - | 0 | - | - | no layer \| fits |" in page


def test_the_list_of_tried_architectures_holds_those_that_work(visited, monkeypatch, tmp_path):
    run(monkeypatch, tmp_path, "--only=c size=2;b;c;a", f"--tried={tmp_path / 'tried'}")
    assert (tmp_path / "tried").read_text() == "a\nc\n"


def test_the_list_that_exports_tell_of_is_the_pages():
    page = (Path(run_zoo.__file__).parent / "RESULTS.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if ":" in line and line[:2] == "| "]
    works = {row[0].removeprefix("| ").split()[0] for row in rows if row[2] != "-"}
    assert TRIED.read_text().split() == sorted(works)
