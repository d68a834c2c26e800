"""Manifests, rollout verdicts, strategies, release records, diagnosis. No SDK."""
