"""Configuration, assembly, runners and the command line."""
