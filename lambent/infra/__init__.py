"""Input and output that two or more processes use. Knows no service; services import it, never the reverse."""
