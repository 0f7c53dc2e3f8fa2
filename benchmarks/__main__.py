"""Benchmark of every record's graphs and of the service; `make bench` runs it."""

from benchmarks import http
from benchmarks.kernels.__main__ import main as kernels

print("## Graphs\n")
kernels(["--all", "--quick", "--without", "torch.compile"])
print("\n## Service\n")
http.main()
