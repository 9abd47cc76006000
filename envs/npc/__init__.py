"""Worlds where a non-player character gets to know an unknown visitor within a few episodes."""
