"""The only importers of SDKs, each imported lazily by the adapter that needs it."""
