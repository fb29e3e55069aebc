"""The on-device policy: model, tokenizer, checkpoint folder, and the PyTorch reference."""
