"""The lifecycle room: ages memories and keeps the house in order."""
