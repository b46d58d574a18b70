"""Runners drive stages; they know nothing of video."""
