"""Lets `python -m memcube_cli` do what `memcube` does."""

from memcube_cli.main import app

app()
