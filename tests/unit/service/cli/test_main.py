"""Help of every command, and aliases."""

import click
import pytest
from click.testing import CliRunner
from commands import run
from textcam_service.cli import main


def commands(command=main, path=()):
    """Every command, with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=str)
def test_help_shows_examples_line_by_line(path, command):
    shown = CliRunner().invoke(main, [*path, "--help"])
    assert shown.exit_code == 0
    assert "\\b" not in shown.output
    lines = [line.strip() for line in shown.output.splitlines()]
    stated = [line.strip() for line in (command.help or "").splitlines()]
    assert [line for line in stated if line.startswith("textcam ") and line not in lines] == []


def test_the_first_command_of_a_new_user_shows_three_examples():
    shown = CliRunner().invoke(main, ["--help"]).output.splitlines()
    examples = [line.split()[:2] for line in shown if line.startswith("    textcam ")]
    assert examples == [["textcam", "export"], ["textcam", "serve"], ["textcam", "explain"]]


def test_the_british_spelling_of_quantize_works_and_is_not_listed():
    CliRunner().invoke(main.commands["quantize"], ["--help"])  # click keeps its option for help
    usage = run("quantize", "--help")
    assert usage[0] == 0
    code, said = run("quantise", "--help")
    assert code == 0
    assert said.replace("main quantise", "main quantize") == usage[1]
    assert run("quantise")[0] == 2  # --images is missing
    listed = run("--help")[1]
    assert " quantize " in listed
    assert " quantise " not in listed


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=str)
def test_every_option_is_documented(path, command):
    undocumented = [
        parameter.name
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert undocumented == []
