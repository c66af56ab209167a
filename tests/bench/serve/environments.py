"""Each peer in an environment of its own, its packages pinned, under build/peers.

uv installs them: it links files from one cache, so torch lies on the disk once.
"""

import os
import subprocess
import sys
from pathlib import Path

UV = "uv==0.13.9"
REQUIREMENTS = Path(__file__).parent / "peers" / "requirements"
_SECONDS = 1800


class PeerMissing(Exception):
    """A peer cannot be installed or started; the message says why."""


def environment(name, root):
    """The bin folder of a peer's environment, installed if it is not there as pinned.

    Raises:
        PeerMissing: It cannot be installed.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    folder = root / name
    done = folder / "installed.txt"
    if done.is_file() and done.read_text() == requirements.read_text():
        return folder / "bin"
    try:
        uv = _uv(root)
        # Only PyPI's own packages: a user's or a machine's settings of uv must not change a peer.
        settings = {"UV_CACHE_DIR": str((root / "cache").resolve()), "UV_NO_CONFIG": "1"}
        python = folder / "bin" / "python"
        # Compiled: torch takes a while to import, in each process of a peer.
        install = (uv, "pip", "sync", "-q", "--compile-bytecode", "--python", python, requirements)
        _call((uv, "venv", "-q", "--clear", "--python", sys.executable, folder), settings)
        _call(install, settings)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        raise PeerMissing(f"{name} cannot be installed: {said[-800:]}") from error
    done.write_text(requirements.read_text())
    return folder / "bin"


def _uv(root):
    folder = root / "uv"
    if not (folder / "bin" / "uv").is_file():
        _call((sys.executable, "-m", "venv", folder), {})
        _call((folder / "bin" / "python", "-m", "pip", "install", "-q", UV), {})
    return folder / "bin" / "uv"


def _call(command, settings):
    subprocess.run(
        [str(word) for word in command],
        check=True, capture_output=True, text=True, timeout=_SECONDS, env=os.environ | settings,
    )  # fmt: skip
