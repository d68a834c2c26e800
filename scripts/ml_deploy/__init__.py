"""ml-deploy: from a model file to a verified endpoint, and back again."""

__version__ = "1.0.0"
