"""Server for tests of code that uses this client."""

from textcam_client.testing.server import InMemoryServer, serve_in_memory

__all__ = ["InMemoryServer", "serve_in_memory"]
