"""What came of schedules: outcomes said by agents, use counted in batches, and what follows for others."""
