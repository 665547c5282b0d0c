"""Loading a file of insights and memories: read, judge, send, remember how far."""
