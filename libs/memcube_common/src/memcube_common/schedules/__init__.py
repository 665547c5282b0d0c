"""Schedules as they are recorded: written by the scheduling room, read by it and by the gateway."""
