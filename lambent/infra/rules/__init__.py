"""EventBridge's rules: where they are kept, and how their targets are told."""
