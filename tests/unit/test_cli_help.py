"""What `--help` prints."""

import click
import pytest
from click.testing import CliRunner
from textcam_service.cli import main


def commands(command, path=()):
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
def test_examples_keep_their_lines(path):
    """A paragraph that click is to leave alone begins with a backspace, which it takes away."""
    done = CliRunner().invoke(main, [*path, "--help"])
    assert done.exit_code == 0, done.output
    assert not {"\b", "\\b"} & set(done.output.split())
    command = main
    for name in path:
        command = command.commands[name]
    assert isinstance(command, click.Command)
    for block in (command.help or "").split("\b\n")[1:]:
        for line in block.split("\n\n")[0].splitlines():
            assert line.strip() in done.output
