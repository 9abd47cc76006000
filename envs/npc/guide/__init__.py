"""An NPC that leads a visitor through a map."""
