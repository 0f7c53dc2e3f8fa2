"""`make bench`: every record's graphs against their peers, and the service against its limits."""

from benchmarks import http
from benchmarks.kernels.__main__ import main as kernels

print("## Graphs\n")
kernels(["--all", "--quick", "--without", "torch.compile"])
print("\n## Service\n")
http.main()
