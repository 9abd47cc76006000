"""Numbers derived from public data about real people and real scripts, and the programme that derives them."""
