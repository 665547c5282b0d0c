"""What differs between the lines of two texts, as a unified diff, found within a bounded amount of work.

The greedy search of E. W. Myers ("An O(ND) difference algorithm and its variations", Algorithmica 1, 1986) over what
is left between the common beginning and end, without the lines that stand in one text only: those are in no common
subsequence, so a text that was written anew costs nothing to compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

WORK_MAX: Final = 100_000
"""Most work of a comparison, some 40 ms: the lines between the common beginning and end, the diagonals that the search
enters and the lines it passes on them. Of lines that stand in both texts it finds some 400 removed and added ones."""

CONTEXT: Final = 3

_BEGIN: Final[Mapping[int, int]] = {1: 0}

Pair = tuple[int, int]
Block = tuple[int, int, int, int]


def unified(before: Sequence[str], after: Sequence[str], names: tuple[str, str]) -> str | None:
    """A unified diff with three lines of context, '' where no line differs; None where it takes more than WORK_MAX."""
    pairs = common(before, after)
    if pairs is None:
        return None
    told: list[str] = []
    for hunk in _hunks(_blocks(pairs, len(before), len(after))):
        first, last = hunk[0], hunk[-1]
        lead = min(CONTEXT, first[0])
        tail = min(CONTEXT, len(before) - last[1])
        told.append(f"@@ -{_range(first[0] - lead, last[1] + tail)} +{_range(first[2] - lead, last[3] + tail)} @@")
        at = first[0] - lead
        for removed, removed_to, added, added_to in hunk:
            told += [" " + line for line in before[at:removed]]
            told += ["-" + line for line in before[removed:removed_to]]
            told += ["+" + line for line in after[added:added_to]]
            at = removed_to
        told += [" " + line for line in before[at : at + tail]]
    return "\n".join((f"--- {names[0]}", f"+++ {names[1]}", *told) if told else ())


def common(before: Sequence[str], after: Sequence[str], most: int = WORK_MAX) -> list[Pair] | None:
    """The places of a longest common subsequence in both, rising; None where finding it takes more than `most` steps.

    Time and memory are linear in the number of lines and in `most`.
    """
    begin, least = 0, min(len(before), len(after))
    while begin < least and before[begin] == after[begin]:
        begin += 1
    end = 0
    while end < least - begin and before[-1 - end] == after[-1 - end]:
        end += 1
    old, new = before[begin : len(before) - end], after[begin : len(after) - end]
    most -= len(old) + len(new)
    if most < 0:
        return None
    numbers = {line: number for number, line in enumerate(set(old) & set(new))}
    old_places = [place for place, line in enumerate(old) if line in numbers]
    new_places = [place for place, line in enumerate(new) if line in numbers]
    found = _search([numbers[old[place]] for place in old_places], [numbers[new[place]] for place in new_places], most)
    if found is None:
        return None
    return [
        *((place, place) for place in range(begin)),
        *((begin + old_places[x], begin + new_places[y]) for x, y in found),
        *((len(before) - rest, len(after) - rest) for rest in range(end, 0, -1)),
    ]


def _search(old: Sequence[int], new: Sequence[int], most: int) -> list[Pair] | None:
    """Myers's figure 2, keeping the furthest points of every round to walk back along them."""
    width, height = len(old), len(new)
    furthest: Mapping[int, int] = _BEGIN
    rounds: list[dict[int, int]] = []
    work = 0
    for edits in range(width + height + 1):
        reached: dict[int, int] = {}
        for diagonal in range(-edits, edits + 1, 2):
            start = x = _entered(furthest, diagonal, edits)[0]
            y = x - diagonal
            while x < width and y < height and old[x] == new[y]:
                x += 1
                y += 1
            reached[diagonal] = x
            if x >= width and y >= height:
                return _walked([*rounds, reached], diagonal)
            work += 1 + x - start
            if work > most:
                return None
        rounds.append(reached)
        furthest = reached
    return None  # never: so many edits always suffice


def _entered(furthest: Mapping[int, int], diagonal: int, edits: int) -> tuple[int, int]:
    """Where the furthest path of so many edits comes into the diagonal, and from which one."""
    down = diagonal == -edits or (diagonal != edits and furthest[diagonal - 1] < furthest[diagonal + 1])
    return (furthest[diagonal + 1], diagonal + 1) if down else (furthest[diagonal - 1] + 1, diagonal - 1)


def _walked(rounds: Sequence[Mapping[int, int]], diagonal: int) -> list[Pair]:
    """The pairs on the way that ended in the diagonal in the last round."""
    pairs: list[Pair] = []
    for edits in range(len(rounds) - 1, -1, -1):
        start, source = _entered(rounds[edits - 1] if edits else _BEGIN, diagonal, edits)
        pairs += [(place, place - diagonal) for place in range(rounds[edits][diagonal] - 1, start - 1, -1)]
        diagonal = source
    return pairs[::-1]


def _blocks(pairs: Sequence[Pair], width: int, height: int) -> Iterator[Block]:
    """Between the pairs: the lines removed and those added, as half-open ranges of both texts."""
    x = y = 0
    for next_x, next_y in (*pairs, (width, height)):
        if next_x > x or next_y > y:
            yield x, next_x, y, next_y
        x, y = next_x + 1, next_y + 1


def _hunks(blocks: Iterator[Block]) -> list[list[Block]]:
    """The blocks, those together whose contexts meet."""
    hunks: list[list[Block]] = []
    for block in blocks:
        if hunks and block[0] - hunks[-1][-1][1] <= 2 * CONTEXT:
            hunks[-1].append(block)
        else:
            hunks.append([block])
    return hunks


def _range(begin: int, end: int) -> str:
    """Lines from 1; of none, the line before them."""
    many = end - begin
    return f"{begin + 1}" if many == 1 else f"{begin + 1 if many else begin},{many}"
