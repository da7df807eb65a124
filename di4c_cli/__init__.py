"""di4c: few-step sampling from discrete diffusion models."""

__version__ = "0.1.0"
