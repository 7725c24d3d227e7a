"""The processes that work on videos, and the queue that feeds them."""
