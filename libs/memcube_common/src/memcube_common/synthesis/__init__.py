"""Several texts put into one: by sentences of their own, or by a language model."""
