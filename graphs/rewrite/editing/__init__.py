"""Edit engine for graphs: draws nodes, puts them in place of others, removes what is unused."""
