"""Commands for NPC worlds: watch, play, scores, audit, maps."""
