"""The documentation site, and the files that speak for the project."""

import ast
import re
import subprocess
import sys

import pytest
import textcam_client
import yaml
from pages import ROOT
from textcam_client import errors
from textcam_service.version import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


LOADED = re.compile(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?:[^\"> ]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return folder


@pytest.mark.parametrize(
    ("page", "has"),
    [
        ("index.html", "cat.png"),
        ("operations.html", "max_queue"),
        ("security.html", "Threats"),
        ("contributing.html", "Docstrings"),
        ("changelog.html", __version__),
        ("architecture.html", "request.svg"),
        ("api/index.html", 'id="textcam_client.Client.explain_many"'),
    ],
)
def test_the_site_has_its_pages(site, page, has):
    assert has in (site / page).read_text()


def test_the_site_asks_no_other_host_for_anything(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?:[^\"> ]+)", page.read_text()
        )
        assert loaded == [], page.name


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs" / "api" / "index.md").read_text()
    shown = re.findall(r"^::: textcam_client\.(\w+)$", page, re.MULTILINE)
    assert sorted(shown) == sorted(textcam_client.__all__)


def test_the_page_of_errors_draws_their_tree():
    page = (ROOT / "docs" / "errors.md").read_text()
    (tree,) = re.findall(r"```text\n(TextCamClientError\n.*?)```", page, re.DOTALL)
    parents, drawn = {}, {}
    for line in tree.splitlines():
        depth, name = re.match(r"([│├└─ ]*)(\w+)", line).groups()
        level = len(depth) // 4
        parents[level] = name
        drawn[name] = parents.get(level - 1)
    real = {
        error.__name__: error.__bases__[0].__name__
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.TextCamClientError)
    }
    assert drawn.pop("TextCamClientError") is None
    real.pop("TextCamClientError")
    assert drawn == real


def test_the_project_names_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.findall(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == __version__ == released[0][0]
    assert str(citation["date-released"]) == released[0][1]


def test_the_citation_says_what_the_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert all({"type", "title", "authors"} <= set(one) for one in citation["references"])
    assert "2510.01004" in str(citation["references"])


def test_releases_are_in_order_and_in_form():
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", each) for each in headings)
    versions = [tuple(map(int, each.split(" ")[0].split("."))) for each in headings]
    assert versions == sorted(versions, reverse=True)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_fragments_become_a_release(tmp_path):
    """A copy, so that no fragment of the next release matters."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    names = {kind["directory"] for kind in settings["type"]}
    for fragment in (ROOT / "changelog.d").glob("*.md"):
        if fragment.name != "README.md":
            assert re.fullmatch(rf"[\w+-]+\.({'|'.join(names)})\.md", fragment.name), fragment.name
    (tmp_path / "changelog.d").mkdir()
    template = ROOT / settings["template"]
    (tmp_path / settings["template"]).write_text(template.read_text())
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "changelog.d" / "less-memory.changed.md").write_text("Takes less memory.\n")
    (tmp_path / "changelog.d" / "ipv6-host.fixed.md").write_text("`host` takes IPv6.\n")
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9"]
    done = subprocess.run(
        [*command, "--date", "2030-01-02"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    changed, fixed = "### Changed - Takes less memory.", "### Fixed - `host` takes IPv6."
    assert " ".join(done.stdout.split()) == f"## 9.9.9 - 2030-01-02 {changed} {fixed}"


def test_hooks_and_workflow_run_what_is_there():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    local = {hook["id"] for repo in hooks["repos"] for hook in repo["hooks"]}
    assert {"ruff", "ruff-format", "mypy", "trailing-whitespace"} <= local
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    ran = {word for step in steps if step.startswith("make ") for word in step.split()[1:]}
    checked = (ROOT / ".ci" / "run").read_text().split("make ")[1].split()
    assert set(checked) <= ran <= targets


def test_the_source_archive_holds_the_face():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in named if not (ROOT / name.strip("/")).exists()] == []
    assert {"/LICENSE", "/SECURITY.md", "/CONTRIBUTING.md", "/docs", "/examples"} <= set(named)


def test_deploy_and_docs_hold_no_python():
    assert [*ROOT.glob("deploy/**/*.py"), *ROOT.glob("docs/**/*.py")] == []
    for script in ROOT.glob("tools/*.py"):
        assert ast.get_docstring(ast.parse(script.read_text())), script
