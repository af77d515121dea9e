"""How good bridges fitted with networks are, beside the numbers that papers report.

    python -m benchmarks.bridges gaussians --dims 5 20 50 --seeds 0 1 2
    python -m benchmarks.bridges plane --seeds 0 1 2 3 4

``gaussians``: DSB and DSBM between two Gaussians in the protocol of Shi et al. 2023 (arXiv
2303.16852, section 6): the divergence of the fitted process' marginals from those of the exact
bridge. ``plane``: DSBM, DSB and SF2M between laws of the plane in the protocol of Shi et al. 2023
and of Tong et al. 2023 (arXiv 2307.03672, appendix F.3): the 2-Wasserstein distance to held-out
data and the normalized path energy. Each fit is written down when it is done, as JSON and as a
table; a study that is stopped goes on with what is missing.
"""
