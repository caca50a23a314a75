"""report.html: one self-contained page made of a view and its summary (layer 2; pure)."""
