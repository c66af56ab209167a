"""The command line in this process."""

from click.testing import CliRunner
from textcam_service.cli import main


def run(*words):
    """Exit status and output of a command; its lines joined, for click breaks them anywhere."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    # Else an exception left the command: a traceback.
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())
