"""From named targets to staged programs: cache, packages, staging, payload (layer 2: host side)."""
