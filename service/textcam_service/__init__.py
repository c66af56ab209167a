"""TextCAM explanation service: export, concept banks and the gRPC server."""

from textcam_service.version import __version__

__all__ = ["__version__"]
