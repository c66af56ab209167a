"""The command line: `textcam`."""

from __future__ import annotations

from textcam_service.cli.main import main

__all__ = ["main"]
