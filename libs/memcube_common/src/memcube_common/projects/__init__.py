"""Projects: what each decides about what is written into it."""
