"""The output folder: features, settings, status."""
