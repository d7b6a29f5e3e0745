"""LoRA of a folder of images with captions, by the denoising loss."""
