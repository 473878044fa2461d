"""The offline wing: learning from a fixed log, mostly in worlds whose every value is known exactly."""
