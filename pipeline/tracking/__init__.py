"""Logging of finished runs to experiment trackers."""
