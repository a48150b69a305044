"""Words for RandomPet: about 6,400 names of two words and 256,000 of three."""

from __future__ import annotations


def _words(*lines: str) -> tuple[str, ...]:
    return tuple(word for line in lines for word in line.split())


ADVERBS = _words(
    "actively boldly bravely briefly brightly calmly carefully cheerfully cleanly clearly deeply duly",
    "eagerly easily evenly fairly firmly freely fully gently gladly greatly happily keenly kindly lightly",
    "loyally merrily neatly openly partly quickly quietly rapidly safely simply smoothly steadily surely",
    "warmly",
)

ADJECTIVES = _words(
    "able active alert amber ample apt awake bold brave bright brisk calm careful cheerful clear clever",
    "cool crisp curious daring deep eager early easy even fair famous fast fine firm fond free fresh full",
    "gentle glad golden good grand great happy hardy honest humble jolly keen kind large light lively",
    "loyal lucky mellow merry mighty modest neat nimble noble open patient peaceful plain polite proud",
    "quick quiet rapid ready rich robust round sharp shiny silent smart smooth solid steady",
)

NAMES = _words(
    "adder albatross alpaca antelope badger barnacle bat bear beaver bee bison boar bobcat buffalo camel",
    "canary carp chamois chough cobra cod condor cougar crab crane cricket crow deer dingo dolphin dove",
    "duck eagle eel egret elk falcon ferret finch fox frog gecko gibbon goat goose grouse gull hamster",
    "hare hawk heron ibex impala jackal jay kestrel koala lark lemur linnet lion llama lynx magpie marmot",
    "marten mole moose newt ocelot osprey otter owl panda pelican perch puffin raven salmon seal stork",
)
