"""Golden predictions, load, statistics, limits. No SDK."""
