"""An NPC that finds the offer that suits a visitor."""
