"""Where event source mappings are kept, and which poller reads which."""
