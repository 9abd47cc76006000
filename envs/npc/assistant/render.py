"""Pictures of a dialogue, painted by numpy: offers as cards, the last answer as a strip."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.npc.palette import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, WHITE, YELLOW

_CARD, _GAP, _COLUMNS = (78, 84), 6, 4
_GRID = (225, 225, 225)
_CATEGORIES = (ORANGE, SKY, PURPLE, YELLOW)


def draw_catalogue(frame: dict[str, Any]) -> NDArray[np.uint8]:
    """Return uint8 [H, W, 3]: a card per offer from an assistant's `frame`.

    On a card a bar per attribute points up where the offer has more than average. The card's edge has the colour of its
    category; refused offers are crossed out. The strip below shows turns taken (blocks), green after a deal, vermilion
    after a refusal, blue after an answer.
    """
    offers = frame["offers"]
    rows = -(-len(offers) // _COLUMNS)
    height, width = _CARD
    image = np.full((rows * (height + _GAP) + _GAP + 24, _COLUMNS * (width + _GAP) + _GAP, 3), WHITE, dtype=np.uint8)
    for number, offer in enumerate(offers):
        top = _GAP + (number // _COLUMNS) * (height + _GAP)
        left = _GAP + (number % _COLUMNS) * (width + _GAP)
        card = image[top : top + height, left : left + width]
        _draw_card(card, offer)
    answer = frame["answer"]
    colour = GREEN if answer == "accepted" else VERMILION if answer == "refused" else BLUE
    block = (image.shape[1] - 2 * _GAP) // frame["horizon"]
    for turn in range(frame["horizon"]):
        left = _GAP + turn * block
        image[-20:-6, left : left + block - 3] = colour if turn < frame["turn"] else _GRID
    return image


def _draw_card(card: NDArray[np.uint8], offer: dict[str, Any]) -> None:
    """Draw one offer into its part of the picture."""
    height, width = card.shape[:2]
    card[:] = _CATEGORIES[offer["category"] % len(_CATEGORIES)]
    card[4:-4, 4:-4] = WHITE
    middle, slot = height // 2, (width - 12) // max(len(offer["values"]), 1)
    for a, value in enumerate(offer["values"]):
        tip = int(np.clip(middle - 14.0 * value, 8, height - 9))
        low, high = sorted((middle, tip))
        card[low : high + 1, 6 + a * slot : 6 + (a + 1) * slot - 2] = BLUE
    card[middle, 6:-6] = INK
    if offer["refused"]:
        steps = np.arange(4 * height)
        r, c = steps * (height - 9) // steps[-1] + 4, steps * (width - 9) // steps[-1] + 4
        for d in range(3):
            card[r, np.minimum(c + d, width - 5)] = VERMILION
            card[r, np.minimum(width - 5 - c + d, width - 5).clip(4)] = VERMILION
