"""What a fresh process of a test begins with: all that takes long to import, which the garbage collector of
none of them walks through."""

import gc

import codestill.compare
import codestill.recipes.logit_kd
import codestill.train.loop  # noqa: F401

gc.collect()
gc.freeze()
