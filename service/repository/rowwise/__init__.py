"""Static analysis of a graph: whether each row of the outputs depends on its own row only."""
