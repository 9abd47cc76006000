"""Physics and programs compiled for this machine."""
