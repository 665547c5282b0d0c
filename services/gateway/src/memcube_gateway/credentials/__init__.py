"""Credentials: who may sign in, which project they are in, and the keys, members and invitations of a project."""
