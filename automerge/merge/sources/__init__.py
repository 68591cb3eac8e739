"""Where weights come from: checkpoints and LoRA adapters, found locally or on the hub, checked before any merge."""
