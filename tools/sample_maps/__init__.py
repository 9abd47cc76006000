"""Programs that draw the sample worlds in `envs/npc/maps/samples`."""
