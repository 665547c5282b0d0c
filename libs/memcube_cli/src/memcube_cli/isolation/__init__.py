"""`memcube verify isolation`: the attack that ships with the product."""

from memcube_cli.isolation.command import register

__all__ = ["register"]
