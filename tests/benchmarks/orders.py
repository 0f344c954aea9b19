"""In which order the servers take their turns.

A server finds what the one before it left: cold caches, children that die. In a
Williams square (E. J. Williams, 1949) every server follows every other equally often;
an odd number of servers takes two squares, the second of which is the first from right
to left.
"""

from collections.abc import Sequence


def balanced(count: int) -> list[tuple[int, ...]]:
    """The orders of ``count`` things: the first goes 0, 1, last, 2, last but one...,
    each other one is that of before plus one.
    """
    zigzag = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(count)]
    square = [tuple((place + shift) % count for place in zigzag) for shift in range(count)]
    return square + [order[::-1] for order in square] if count % 2 else square


def turns(names: Sequence[str], *, lap: int, shift: int) -> list[str]:
    """The order of lap number ``lap`` of all laps of a row; ``shift``: another one for
    each row of the table.

    The laps walk through the orders one after the other, and each walk begins one
    further, so that whole walks are in balance and the rounds begin differently.
    """
    orders = balanced(len(names))
    return (
        [names[place] for place in orders[(lap + lap // len(orders) + shift) % len(orders)]]
        if orders
        else []
    )
