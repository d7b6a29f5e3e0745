"""Adapters of the subgroups of labelled images, and of the clusters in them."""
