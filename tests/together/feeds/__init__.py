"""The proof that subscriptions miss nothing: worlds, readers, and the checker of histories."""
