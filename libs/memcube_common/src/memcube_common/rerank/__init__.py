"""A reranker, where one is set: a model that reads the question and a text together, and says how well they fit."""
