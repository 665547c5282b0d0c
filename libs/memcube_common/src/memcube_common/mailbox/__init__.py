"""What comes in, what waits, what is set aside, and what goes out: the mail of the house."""
