"""The stages of the pipeline. This file imports nothing: the decode child starts through it and must stay light."""
