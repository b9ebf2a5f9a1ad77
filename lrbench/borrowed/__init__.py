"""Tasks whose world is somebody else's model: its directions and its law instead of those that a seed gives."""
