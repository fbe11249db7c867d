"""What client and server say to one another, as values."""
