"""The mains: `metarl train|evaluate|report|worlds|profile|doctor`. Imports everything, when asked to."""
