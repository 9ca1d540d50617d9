"""RAPO, Reaction Aware Policy Optimization: train dialogue models on the reactions their replies cause."""

__version__ = "0.1.0"
