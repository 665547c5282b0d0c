"""The write model of a memory: every room that writes one writes it here, so that every path is the same code."""
