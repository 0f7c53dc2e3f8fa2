"""`make bench`: every record's graph against its peers, and the service against its limits."""

from benchmarks import graphs, http

print("## Graphs\n")
graphs.main()
print("\n## Service\n")
http.main()
