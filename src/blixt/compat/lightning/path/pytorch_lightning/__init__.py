"""Stands where Lightning would: the finder's package of this name takes this file's place."""

from blixt.compat.lightning.finder import replace

replace(__name__)
