"""Direct fine-tuning towards a target distribution (Shen et al., ICLR 2024, arXiv 2311.07604)."""
