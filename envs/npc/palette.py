"""Colours that people with any kind of colour vision tell apart, as RGB (Okabe and Ito 2008)."""

from __future__ import annotations

BLACK, ORANGE, SKY, GREEN = (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115)
YELLOW, BLUE, VERMILION, PURPLE = (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)
WHITE = (255, 255, 255)
INK = (40, 40, 40)
"""What outlines are drawn in on white."""
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)
"""One colour after the other, for things that are told apart by colour alone."""
