"""A stand-in for a Kubernetes API server, its controllers and one node. See ../README.md for what it lacks."""
