"""The gateway room: the HTTP door of MemCube."""
