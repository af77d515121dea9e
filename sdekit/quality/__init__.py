"""How good samples are: MMD, Fréchet distances in features, precision and recall, baselines."""

from sdekit.quality.baselines import gaussian_bits_per_dim, uniform_bits_per_dim
from sdekit.quality.features import DigitFeatures, digit_features
from sdekit.quality.frechet import frechet_distance, frechet_infinity, gaussian_frechet
from sdekit.quality.image_quality import image_quality
from sdekit.quality.judge import Judge, Quality
from sdekit.quality.mmd import MMD, median_distance, mmd
from sdekit.quality.recipe import FeatureRecipe

__all__ = [
    "MMD",
    "DigitFeatures",
    "FeatureRecipe",
    "Judge",
    "Quality",
    "digit_features",
    "frechet_distance",
    "frechet_infinity",
    "gaussian_bits_per_dim",
    "gaussian_frechet",
    "image_quality",
    "median_distance",
    "mmd",
    "uniform_bits_per_dim",
]
