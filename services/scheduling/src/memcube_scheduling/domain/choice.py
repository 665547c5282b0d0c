"""The choice: which candidates go into the budget, by what each still says beside the others. Pure and repeatable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from memcube_common.contracts.scheduling import Reason

SAME: Final = 0.9
"""From this on, two texts say the same: only one of them is told."""
ALIKE: Final = 0.75
"""From this on, what was left out is called redundant rather than too dear."""
LEAST: Final = 0.01
"""What was left out although it fits adds less than it takes from what it resembles, however little that is."""
EXACT_MAX: Final = 12
"""Up to how many candidates every combination is tried."""
CELLS: Final = 4096
"""How finely the budget is divided to be filled: up to this many tokens, to the token."""
SWAPS: Final = 24

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Item:
    """A candidate that may be chosen: its score, what it costs of the budget, and whether it comes first whatever."""

    id: UUID
    score: float
    tokens: int
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """What binds the choice. tokens, most: at most so many, of so many items.

    redundancy: share of its value that a text loses which another says too. sharpness: a candidate of half the score is
    worth 0.5 ** sharpness as much, so that cheap ones do not crowd out the good.
    """

    tokens: int
    most: int
    redundancy: float
    sharpness: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, the pinned first, each by its score; and why each of the others was left."""

    order: tuple[UUID, ...]
    left: Mapping[UUID, tuple[Reason, UUID | None]]


def in_order(items: Iterable[Item]) -> list[Item]:
    """The pinned first, then by score, equals by id: the order of a schedule, and of places in similarities."""
    return sorted(items, key=lambda item: (not item.pinned, -item.score, item.id.int))


def shortlist_size(most: int) -> int:
    """How many of the best are compared with each other; what stands behind them is too far down to be told."""
    return max(100, most)


def choose(items: Sequence[Item], similar: Mapping[tuple[int, int], float], terms: Terms) -> Choice:
    """Choose out of `items`; similar: by places in the order of `in_order`, among the shortlist.

    The pinned are taken first, as they fit. The others are filled in by value (score ** sharpness) per token, each
    losing `redundancy` × its likeness to what stands before it. Of greedy fills by density and by value, exact ones of
    the budget (dynamic programming, over what each is worth alone and beside all its betters) and the best single item,
    the best is mended by exchanges; up to 12 candidates, every combination is tried.
    """
    ordered = in_order(items)
    field = _Field(ordered[: shortlist_size(terms.most)], similar, terms)
    taken = field.pinned()
    taken = field.best(taken)
    chosen = sorted(taken)
    room = terms.tokens - sum(ordered[place].tokens for place in chosen)
    left: dict[UUID, tuple[Reason, UUID | None]] = {}
    for place, item in enumerate(ordered):
        if place in taken:
            continue
        fits = item.tokens <= room and len(chosen) < terms.most  # then it would only repeat the others
        twin = field.twin(place, chosen, LEAST if fits else ALIKE) if place < field.size else None
        left[item.id] = ("budget", None) if twin is None else ("redundant", ordered[twin].id)
    return Choice(tuple(ordered[place].id for place in chosen), left)


class _Field:
    """The shortlist as arrays, by place: what sets of it are worth, and the best of them."""

    def __init__(self, items: Sequence[Item], similar: Mapping[tuple[int, int], float], terms: Terms) -> None:
        self.size = len(items)
        self._terms = terms
        self._pins = [place for place, item in enumerate(items) if item.pinned]
        self._costs = np.array([item.tokens for item in items], dtype=np.int64)
        self._values = np.array([max(0.0, item.score) for item in items], dtype=np.float64) ** terms.sharpness
        self._alike = np.zeros((self.size, self.size), dtype=np.float64)
        for (one, other), likeness in similar.items():
            if one < self.size and other < self.size:
                self._alike[one, other] = self._alike[other, one] = likeness

    def pinned(self) -> frozenset[int]:
        """Those that come first whatever, as far as they fit."""
        return self._added(frozenset(), self._pins, self._terms.tokens)

    def best(self, first: frozenset[int]) -> frozenset[int]:
        """The best set that contains `first` and no other pinned one."""
        room = self._terms.tokens - self._cost(first)
        most = self._terms.most - len(first)
        free = [
            place
            for place in range(self.size)
            if place not in self._pins and self._costs[place] <= room and self._values[place] > 0
        ]
        free = [place for place in free if self.twin(place, sorted(first), SAME) is None]
        if not free or most <= 0:
            return first
        if len(free) <= EXACT_MAX:
            return self._exact(first, free, room, most)
        found = [
            self._greedy(first, free, room, most, self._values / self._costs),
            self._greedy(first, free, room, most, self._values),
            self._filled(first, free, room, most, self._beside_betters(first, free)),
            self._filled(first, free, room, most, self._values),
            first | {max(free, key=lambda place: (self._values[place], -place))},
        ]
        best = max(found, key=lambda taken: (self.worth(taken), [-place for place in sorted(taken)]))
        return self._mended(best, first, free)

    def worth(self, taken: Iterable[int]) -> float:
        """Σ value × (1 − redundancy × greatest likeness to one that stands before it)."""
        places = sorted(taken)
        if not places:
            return 0.0
        before = np.tril(self._alike[np.ix_(places, places)], -1).max(axis=1)
        return float((self._values[places] * (1.0 - self._terms.redundancy * before)).sum())

    def twin(self, place: int, chosen: Sequence[int], least: float = ALIKE) -> int | None:
        """The chosen one that is most like the one at `place`, where it is like enough."""
        if not chosen:
            return None
        nearest = max(chosen, key=lambda other: (self._alike[place, other], -other))
        return nearest if self._alike[place, nearest] >= least else None

    def _cost(self, taken: Iterable[int]) -> int:
        return int(self._costs[list(taken)].sum()) if taken else 0

    def _added(self, taken: frozenset[int], places: Iterable[int], room: int) -> frozenset[int]:
        """With each of `places`, in turn, that fits and is not said already."""
        kept = set(taken)
        for place in places:
            cost = int(self._costs[place])
            pinned = place in self._pins
            if cost > room or len(kept) >= self._terms.most or place in kept:
                continue
            if not pinned and kept and self._alike[place, list(kept)].max() >= SAME:
                continue
            kept.add(place)
            room -= cost
        return frozenset(kept)

    def _greedy(
        self, first: frozenset[int], free: Sequence[int], room: int, most: int, rates: Floats
    ) -> frozenset[int]:
        """Always the one whose rate, less what is said already, is best and that still fits: MMR by value per token."""
        taken = set(first)
        said = self._alike[:, sorted(first)].max(axis=1) if first else np.zeros(self.size)
        open_ = np.zeros(self.size, dtype=bool)
        open_[list(free)] = True
        for _ in range(most):
            gains = np.where(
                open_ & (self._costs <= room) & (said < SAME), rates * (1.0 - self._terms.redundancy * said), -1.0
            )
            place = int(gains.argmax())
            if gains[place] < 0:
                break
            taken.add(place)
            open_[place] = False
            room -= int(self._costs[place])
            said = np.maximum(said, self._alike[:, place])
        return frozenset(taken)

    def _beside_betters(self, first: frozenset[int], free: Sequence[int]) -> Floats:
        """What each would be worth if all that stand before it were told."""
        betters = np.tril(self._alike, -1)
        betters[:, [place for place in range(self.size) if place not in free and place not in first]] = 0.0
        return self._values * (1.0 - self._terms.redundancy * betters.max(axis=1))

    def _filled(
        self, first: frozenset[int], free: Sequence[int], room: int, most: int, worth: Floats
    ) -> frozenset[int]:
        """The budget filled exactly, each at what it is taken to be worth; then whatever else still fits.

        Dynamic programming over the budget in at most 4,096 cells. Where that takes too many items, the dearest in
        tokens for their value go.
        """
        cell = -(-room // CELLS)
        cells = room // cell
        best = np.zeros(cells + 1)
        took = np.zeros((len(free), cells + 1), dtype=bool)
        for row, place in enumerate(free):
            cost = -(-int(self._costs[place]) // cell)
            with_it = best[: cells + 1 - cost] + worth[place]
            took[row, cost:] = with_it > best[cost:]
            best[cost:] = np.maximum(best[cost:], with_it)
        at, picked = cells, list[int]()
        for row in range(len(free) - 1, -1, -1):
            if took[row, at]:
                picked.append(free[row])
                at -= -(-int(self._costs[free[row]]) // cell)
        picked.sort(key=lambda place: (-worth[place], place))
        density = sorted(free, key=lambda place: (-worth[place] / self._costs[place], place))
        return self._added(first, [*picked[:most], *density], room)

    def _mended(self, taken: frozenset[int], first: frozenset[int], free: Sequence[int]) -> frozenset[int]:
        """With single exchanges, and what then fits, for as long as that makes it worth more."""
        for _ in range(SWAPS):
            room = self._terms.tokens - self._cost(taken)
            density = sorted(free, key=lambda place: (-self._values[place] / self._costs[place], place))
            fuller = self._added(taken, density, room)
            swapped = self._swapped(fuller, first, free)
            if swapped is None:
                return fuller
            taken = swapped
        return taken

    def _swapped(self, taken: frozenset[int], first: frozenset[int], free: Sequence[int]) -> frozenset[int] | None:
        """The best exchange of one for another, if any helps."""
        room = self._terms.tokens - self._cost(taken)
        inside = np.array(sorted(taken - first), dtype=np.int64)
        outside = np.array([place for place in free if place not in taken], dtype=np.int64)
        if not inside.size or not outside.size:
            return None
        held = np.array(sorted(taken), dtype=np.int64)
        nearest = self._alike[np.ix_(outside, held)].max(axis=1)
        gains = self._values[outside] * (1.0 - self._terms.redundancy * nearest)
        now = self.worth(taken)
        lost = self._losses(held)[np.searchsorted(held, inside)]
        better = gains[:, None] - lost[None, :]
        better[self._costs[outside][:, None] > self._costs[inside][None, :] + room] = -1.0
        alike = self._alike[np.ix_(outside, inside)]
        others = np.where(self._alike[np.ix_(outside, held)] >= SAME, 1, 0).sum(axis=1)
        better[(others[:, None] - (alike >= SAME)) > 0] = -1.0  # it would stand beside its like
        one, other = np.unravel_index(int(better.argmax()), better.shape)
        swapped = taken - {int(inside[other])} | {int(outside[one])}
        return swapped if self.worth(swapped) > now + 1e-12 else None

    def _losses(self, held: NDArray[np.int64]) -> Floats:
        """What a set, given by its places in order, would lose with each of them."""
        before = np.tril(self._alike[np.ix_(held, held)], -1)
        rows = np.arange(len(held))
        nearest = before.argmax(axis=1)
        most = before[rows, nearest]
        before[rows, nearest] = 0.0
        losses = self._values[held] * (1.0 - self._terms.redundancy * most)
        freed = self._values[held] * self._terms.redundancy * (most - before.max(axis=1))
        np.subtract.at(losses, nearest, freed)  # what repeats it would be worth more without it
        return losses

    def _exact(self, first: frozenset[int], free: Sequence[int], room: int, most: int) -> frozenset[int]:
        """The best of all combinations: depth first, leaving what cannot become better than the best so far."""
        best, best_worth = first, self.worth(first)
        ahead = [0.0] * (len(free) + 1)
        for row in range(len(free) - 1, -1, -1):
            ahead[row] = ahead[row + 1] + float(self._values[free[row]])
        share = self._terms.redundancy

        def look(row: int, taken: tuple[int, ...], worth: float, room: int) -> None:
            nonlocal best, best_worth
            if worth > best_worth + 1e-12:
                best, best_worth = frozenset(taken), worth
            if row == len(free) or len(taken) - len(first) == most or worth + ahead[row] <= best_worth + 1e-12:
                return
            place = free[row]
            cost = int(self._costs[place])
            said = max((float(self._alike[place, other]) for other in taken if other < place), default=0.0)
            like = max((float(self._alike[place, other]) for other in taken), default=0.0)
            if cost <= room and like < SAME:
                look(row + 1, (*taken, place), worth + float(self._values[place]) * (1.0 - share * said), room - cost)
            look(row + 1, taken, worth, room)

        look(0, tuple(sorted(first)), best_worth, room)
        return best
