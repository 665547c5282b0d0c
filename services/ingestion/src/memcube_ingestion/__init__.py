"""The ingestion room: turns insights into memories, and carries changes to NATS."""
