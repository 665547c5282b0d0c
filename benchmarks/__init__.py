"""How fast, how large, how good: every figure beside the raw limit of the same run, judged by ratios."""
