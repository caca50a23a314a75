"""Everything that a person or a CI reads, derived from run directories (layer 2)."""
