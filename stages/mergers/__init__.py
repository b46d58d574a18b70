"""Mergers: one method, one file, file name = method name."""
