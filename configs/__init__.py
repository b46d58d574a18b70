"""YAML presets, one per published method, and `default`."""
