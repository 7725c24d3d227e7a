"""Published weights, downloaded and loaded."""
