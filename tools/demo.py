"""Demo: a real server on loopback explains photographs and writes a picture of each."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Start `textcam serve` on a free port, run `textcam explain` against it, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--bank", default=None)
    parser.add_argument("--output", required=True)
    parser.add_argument("images", nargs="+")
    arguments = parser.parse_args()
    textcam = str(Path(sys.executable).with_name("textcam"))
    serve = [textcam, "serve", "--backbone", arguments.backbone, "--port", "0"]
    if arguments.bank is not None:
        serve += ["--bank", arguments.bank, "--name", "scenes"]
    explain = [textcam, "explain", "--output", arguments.output, *arguments.images]
    with subprocess.Popen(
        [*serve, "--metrics-port", "-1", "--log-level", "WARNING"],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            listening = re.search(r" on (\S+:\d+)", line)
            if listening is None:
                sys.stderr.write("the server did not start; see its message above\n")
                return 1
            sys.stdout.write(line)
            sys.stdout.flush()
            return subprocess.run([*explain, "--server", listening[1]], check=False).returncode
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(main())
