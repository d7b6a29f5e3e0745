"""Sweeps: one adapter, or several, at many strengths and settings of the sampler. No torch."""
