"""The whole way as one run: whom a generator draws, before and after, to a classifier by group."""

from evenhand.chain.run import chain

__all__ = ["chain"]
