"""How findings name numbers of things."""

from __future__ import annotations

from itertools import groupby

__all__ = ["and_more", "counted", "listed"]

_MOST_NAMED = 6


def counted(number: int, noun: str, several: str = "") -> str:
    """`1 stage`, `3 stages`."""
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"


def and_more(number: int, noun: str, several: str = "") -> str:
    """`, and 3 more repeated actions`; nothing for 0."""
    return f", and {counted(number, f'more {noun}', several and f'more {several}')}" if number else ""


def listed(noun: str, numbers: list[int], several: str = "") -> str:
    """`stage 3`, `stages 3-5, 7`; of many spans only the first."""
    spans = [list(group) for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    texts = [str(span[0][1]) if len(span) == 1 else f"{span[0][1]}-{span[-1][1]}" for span in spans]
    more = f" and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return f"{noun if len(numbers) == 1 else several or f'{noun}s'} {', '.join(texts[:_MOST_NAMED])}{more}"
