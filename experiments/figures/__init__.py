"""Figures, tables of text and the page that `report` writes."""
