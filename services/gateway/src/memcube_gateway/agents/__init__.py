"""Agents on NATS: who is let in, what they may reach, what they ask, and how they are shown out."""
