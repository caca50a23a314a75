"""Commands of the host run with limits, told apart by how they ended (layer 2)."""
