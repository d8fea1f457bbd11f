"""What our processes say to each other; not for users."""
