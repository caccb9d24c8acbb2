"""Tollhouse: decides, meters, charges and routes calls to AI models."""

from importlib import metadata

try:
    __version__ = metadata.version("tollhouse")
except metadata.PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"
