"""What our processes say to each other, generated from `protos/`. Never edited."""
