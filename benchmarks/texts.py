"""Made-up insights and questions: the same for the same seed, with words of all frequencies as in real notes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

_TOPICS: Final = (
    "deploy release rollback pipeline canary freeze window artefact",
    "database index vacuum replica migration deadlock schema backup",
    "invoice payment refund ledger currency discount tax receipt",
    "login password session token permission role account passkey",
    "search ranking query snippet synonym crawler relevance facet",
    "meeting agenda minutes calendar decision deadline owner review",
    "customer contract renewal complaint support ticket escalation survey",
    "warehouse shipment pallet courier customs delay barcode inventory",
    "sensor firmware battery antenna calibration voltage gateway drift",
    "garden tomato seedling compost frost watering greenhouse harvest",
    "kitchen recipe oven flour spice dough simmer portion",
    "travel flight hotel visa luggage itinerary timezone train",
    "hiring candidate interview offer onboarding mentor probation salary",
    "design mockup colour contrast typeface layout icon spacing",
    "music cello rehearsal concert tempo score choir tuning",
    "health sleep allergy dosage appointment exercise symptom clinic",
    "cluster node scheduler quota container image volume eviction",
    "cache eviction latency timeout retry backoff queue throughput",
    "parser grammar encoding newline escape unicode locale fixture",
    "school homework exam teacher lesson vocabulary essay grade",
    "budget forecast quarter expense approval audit margin supplier",
    "weather storm rainfall forecast humidity wind harbour tide",
    "bicycle brake chain helmet tyre gear commute puncture",
    "house roof plumbing insulation radiator neighbour lease boiler",
)
_VERBS: Final = (
    "fails", "improves", "blocks", "delays", "replaces", "confuses", "protects", "slows", "repairs", "triggers",
)  # fmt: skip
_WHEN: Final = (
    "on Fridays", "after midnight", "before every release", "in the second week", "during the holidays", "since March",
    "when the office is closed", "under heavy use", "for new customers", "twice a month", "at the end of the quarter",
)  # fmt: skip
_SO: Final = (
    "ask {person} first", "write it down", "check the {thing} twice", "keep a copy of the {thing}", "warn the team",
    "wait for {person}", "prefer the older {thing}", "never skip the {thing}", "tell {person} about the {thing}",
)  # fmt: skip
_PATTERNS: Final = (
    "The {a} of {place} {verb} the {b} {when}, so {so}.",
    "{person} noticed that the {a} {verb} the {b} {when}; {so}.",
    "{when_first}, {person} found the {a} near {place}: it {verb} the {b} and the {c}.",
    "Remember for {place}: the {a} {verb} the {b} {when}. {person} says to {so}.",
    "{person} prefers the {a} over the {b} {when}, because the {c} {verb} the rest.",
)
_ASKED: Final = (
    "Why does the {a} of {place} trouble the {b}?",
    "What did {person} find out about the {a}?",
    "When is it that the {a} {verb} the {b}?",
    "Which {a} does {person} prefer, and what about the {b}?",
    "What should one do about the {b} in {place}?",
)
_SYLLABLES: Final = tuple(consonant + vowel for consonant in "bdfghklmnprstvwz" for vowel in "aeio")
_NAMES: Final = 6_000


@dataclass(frozen=True, slots=True)
class Note:
    """One made-up insight and a question that it answers."""

    text: str
    question: str
    tags: tuple[str, ...]


def notes(count: int, seed: int) -> list[Note]:
    """`count` different notes of 12 to 24 words: 24 topics, and 6,000 made-up names in a Zipf order."""
    chance = random.Random(seed)
    made: set[str] = set()
    while len(made) < _NAMES:
        made.add("".join(chance.choices(_SYLLABLES, k=chance.randint(2, 4))).capitalize())
    names = sorted(made)
    chance.shuffle(names)
    weights = list(accumulate(1 / (rank + 3) for rank in range(_NAMES)))
    seen: set[str] = set()
    found: list[Note] = []
    while len(found) < count:
        topic = chance.choice(_TOPICS).split()
        a, b, c, thing = chance.sample(topic, 4)
        person, place = chance.choices(names, cum_weights=weights, k=2)
        when = chance.choice(_WHEN)
        words = {
            "a": a, "b": b, "c": c, "person": person, "place": place, "verb": chance.choice(_VERBS), "when": when,
            "when_first": when[0].upper() + when[1:], "so": chance.choice(_SO).format(person=person, thing=thing),
        }  # fmt: skip
        text = chance.choice(_PATTERNS).format(**words)
        if text not in seen:
            seen.add(text)
            found.append(Note(text, chance.choice(_ASKED).format(**words), (topic[0], chance.choice(topic[1:]))))
    return found
