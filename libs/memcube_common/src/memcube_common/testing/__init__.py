"""Real but scripted stand-ins for what MemCube talks to; for tests and benchmarks."""
