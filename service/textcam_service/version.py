"""Version of the distribution."""

__version__ = "0.6.0"
