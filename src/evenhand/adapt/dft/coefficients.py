"""Factors on the image gradient of each denoiser call.

What stands between the sampler's coefficients and the parameters.

The sampler weighs its calls unevenly (A_i in Shen et al., ICLR 2024, section 4.2). The paper asks
for equal weights; its code multiplies by coefficients of the forward process, which leave the last
calls of a second-order sampler far off.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evenhand.core.errors import UserError
from evenhand.diffusion.replay import Tape

Gradients = list[list[Tensor | None]]


def squared_norms(gradients: Gradients) -> Tensor:
    """`[calls]`: the squared norm of each call's image gradient."""
    found = [
        sum(float(g.float().square().sum()) for g in call if g is not None) for call in gradients
    ]
    return torch.tensor(found, dtype=torch.float64)


def uniform(squared: Tensor) -> list[float]:
    """Factors that give every call the mean norm; 0 where there is no gradient.

    Args:
        squared: `[calls]` squared norms over all images of the step.
    """
    norms = squared.sqrt()
    return [float(norms.mean() / norm) if norm else 0.0 for norm in norms]


def published(scheduler: Any, tape: Tape) -> list[float]:
    """The published code's factors, for the tape's time steps.

    Raises:
        UserError: the scheduler has no noise schedule of that kind, or the model does not predict
            noise.
    """
    kind = getattr(scheduler.config, "prediction_type", None)
    if not hasattr(scheduler, "alphas_cumprod") or kind != "epsilon":
        raise UserError(
            "gradient.rescale=published needs a model that predicts noise and a scheduler with "
            "alphas_cumprod; "
            f"this one is a {type(scheduler).__name__} ({kind or 'no prediction_type'}). Use "
            "uniform or exact"
        )
    steps = [int(torch.as_tensor(call.arguments["timestep"]).flatten()[0]) for call in tape.calls]
    return published_factors(np.asarray(scheduler.alphas_cumprod.cpu()), steps).tolist()


def published_factors(alphas_cumprod: NDArray, steps: list[int]) -> NDArray[np.float64]:
    """`c_i = r_i / geometric mean of r`, `r = sqrt(abar (1 - abar)) / beta`, by call.

    Args:
        alphas_cumprod: `[T]` of the training schedule.
        steps: time step of each call.
    """
    abar = np.asarray(alphas_cumprod, dtype=float)
    beta = 1 - abar / np.concatenate([[1.0], abar[:-1]])
    r = (np.sqrt(abar * (1 - abar)) / beta)[steps]
    return r / np.exp(np.log(r).mean())
