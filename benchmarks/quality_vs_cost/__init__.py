"""How good the samples of one trained model are, by the number of network evaluations they cost.

    python -m benchmarks.quality_vs_cost --model RUN --evaluations 10 20 50 100 --samples 500

Every sampler of ``sdekit.sample.SAMPLERS`` draws from the same model with as many evaluations of
the network as it is given; the Fréchet distance and MMD to held-out images, in the features of a
classifier trained on the same real digits, stand beside those of training images. Written: a table,
a plot, JSON. A study that is stopped goes on with what is missing.
"""
