"""The scheduling room: chooses the right memories for a task inside a token budget."""
