"""Mathematics in answers: where text states it, its canonical spelling, its shape, and whether formulas are equal."""
