"""A class of its own below SDL, whose inherited kind the catalogue cannot read."""

from lrbench import SDL
from lrbench.rules import TopK


class Variant(SDL):
    pass


METHOD = Variant(rule=TopK())
