"""Small exact worlds in which a curriculum can be judged in seconds."""
