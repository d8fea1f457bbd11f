"""Records that are due at times: rules and schedules, where they are kept, and who acts on them when."""
