"""The write model of an insight: the same code whether it came through the HTTP door or over the bus."""
