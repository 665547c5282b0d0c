"""A language model, where one is set: it reads conversations for what was learned, and puts several texts into one."""
