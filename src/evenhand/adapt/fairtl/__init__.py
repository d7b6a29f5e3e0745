"""Transfer to a small balanced set of images: fairTL and fairTL++, carried over to diffusion."""
