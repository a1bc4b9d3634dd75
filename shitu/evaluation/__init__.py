"""How well the whole pipeline names photos whose labels are known: figures, a report, and thresholds from them."""
