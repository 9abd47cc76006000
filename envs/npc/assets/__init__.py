"""An NPC that handles virtual assets."""
