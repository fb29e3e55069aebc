"""A bundle: artifact, tokenizer, routing data and conformance cases, with every file hashed."""
