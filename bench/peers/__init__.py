"""What else one would take, built as it usually is, to be measured beside the mesh."""
