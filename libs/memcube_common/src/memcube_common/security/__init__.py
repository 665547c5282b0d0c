"""Who is asking, and the keys they ask with."""
