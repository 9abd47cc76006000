"""Programs that derive `envs/npc/data` from public packages; its `SOURCES.md` says which."""
