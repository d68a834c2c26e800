"""Model files: formats, inspection, policy, digest. No network, no SDK."""
