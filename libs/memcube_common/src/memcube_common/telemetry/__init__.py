"""What a room tells about itself: logs, metrics, health. Never memory content."""
