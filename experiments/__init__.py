"""The mains: `python -m experiments train|evaluate|report|worlds|profile|doctor`. Imports everything, when asked to."""
