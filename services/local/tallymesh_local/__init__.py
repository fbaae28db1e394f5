"""The whole mesh on one machine: `tallymesh up`, `tallymesh demo`, and each role by itself."""
