"""Chooses the order in which servers take their turns.

A server inherits effects of the one before it, such as cold caches and dying children.
In a Williams square (E. J. Williams, 1949) every server follows every other one equally
often. An odd number of servers needs two squares, the second of which is the first from
right to left.
"""

from collections.abc import Sequence


def balanced(count: int) -> list[tuple[int, ...]]:
    """Return the orders of ``count`` servers. The first is 0, 1, last, 2, last but one
    and so on; each other one is the one before plus one.
    """
    zigzag = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(count)]
    square = [tuple((place + shift) % count for place in zigzag) for shift in range(count)]
    return square + [order[::-1] for order in square] if count % 2 else square


def turns(names: Sequence[str], *, lap: int, shift: int) -> list[str]:
    """Return the order of lap number ``lap`` of all laps of a row. ``shift`` differs
    for each row of the table.

    The laps go through the orders one after the other. Each pass begins one order
    further, so that whole passes are balanced and the rounds begin differently.
    """
    orders = balanced(len(names))
    return (
        [names[place] for place in orders[(lap + lap // len(orders) + shift) % len(orders)]]
        if orders
        else []
    )
