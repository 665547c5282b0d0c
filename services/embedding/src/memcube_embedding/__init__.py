"""The embedding room: gives memories and questions their vectors."""
