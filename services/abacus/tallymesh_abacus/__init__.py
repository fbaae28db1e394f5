"""The abacus service: named exact sums, shared by everyone, watched by anyone."""
