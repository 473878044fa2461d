"""People in the loop: retune, take over, verify, and let one sensor teach another."""
