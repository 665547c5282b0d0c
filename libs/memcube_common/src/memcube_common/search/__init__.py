"""Finding memories by meaning and by words: the candidate SQL and the fusion that every searching room shares."""
