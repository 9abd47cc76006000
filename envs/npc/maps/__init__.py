"""Worlds that people draw: Tiled maps and Decentraland scenes as plain tensors. See docs/maps.md."""
