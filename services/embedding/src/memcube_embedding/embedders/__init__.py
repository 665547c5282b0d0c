"""What turns a text into a vector: the local model, OpenAI, and the guards that may stand before either."""
