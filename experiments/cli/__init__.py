"""The command line: parsing, overrides, help, messages."""
