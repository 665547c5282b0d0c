"""The operator's command `memcube`."""
