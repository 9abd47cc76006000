"""Numbers derived from public data about real people and real scripts; `SOURCES.md` says from which, and how."""
