"""An NPC that gets to know visitors who come again."""
