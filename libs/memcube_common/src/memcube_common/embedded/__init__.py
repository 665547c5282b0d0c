"""Postgres and NATS started from binaries that installed packages carry: the default stack of one machine."""

from memcube_common.embedded.nats import EmbeddedNats
from memcube_common.embedded.postgres import EmbeddedPostgres
from memcube_common.embedded.process import CannotStart

__all__ = ["CannotStart", "EmbeddedNats", "EmbeddedPostgres"]
