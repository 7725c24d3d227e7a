"""Media files -> frames or samples, streamed."""
