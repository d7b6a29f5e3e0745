"""Measure and correct whom a text-to-image diffusion model draws."""

import os

# The libraries of Hugging Face send no telemetry: they read this when they are first imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
