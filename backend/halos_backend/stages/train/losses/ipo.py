"""Identity Preference Optimization: Azar et al. 2023, arXiv 2310.12036."""

from __future__ import annotations

from torch import Tensor


def ipo_loss(
    *, chosen_mean_logratios: Tensor, rejected_mean_logratios: Tensor, tau: float
) -> Tensor:
    """Per-pair IPO loss (Azar et al. 2023, eq. 17). All tensors are (pairs,).

    Log-ratios are means over completion tokens, as in HALOs and TRL (the paper's equation has
    sequence log-ratios). HALOs divides by the number of tokens whose log-ratio is not 0, which is
    0 / 0 when policy equals reference; the means here come from explicit masks.
    """
    margin = chosen_mean_logratios - rejected_mean_logratios
    return (margin - 1 / (2 * tau)).square()
