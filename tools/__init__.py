"""Programs for the project itself, outside what is installed."""
