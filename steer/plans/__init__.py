"""Plans: the routing setting that a pair, a benchmark and a budget call for, chosen on validation questions."""
