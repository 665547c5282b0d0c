"""What every room of MemCube needs and no room owns."""
