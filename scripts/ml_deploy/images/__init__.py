"""Image references, Dockerfile generation, build plans. No SDK."""
