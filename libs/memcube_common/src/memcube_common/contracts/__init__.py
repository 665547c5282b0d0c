"""What MemCube says to the outside: events, asks, HTTP models, subjects. Imports no machinery."""
