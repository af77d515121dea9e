"""Who draws what, and Brownian paths made from it."""
