"""Values shared by all layers."""
