"""From simulation to the arm: a virtual SO-101 that speaks its servos' protocol."""
