// Counter of failures. It prints the first three of each kind.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <map>
#include <string>

namespace gatewave::tests {

class Checker {
 public:
  // Counts a failure of a kind. Returns true for the first three.
  bool fail(const std::string& kind) {
    ++failed_;
    return ++kinds_[kind] <= 3;
  }

  [[gnu::format(printf, 3, 4)]] void fail(const std::string& kind, const char* what, ...) {
    if (!fail(kind)) return;
    std::printf("FAILED %s: ", kind.c_str());
    va_list values;
    va_start(values, what);
    std::vprintf(what, values);
    va_end(values);
    std::printf("\n");
  }

  void count(long long more) { checked_ += more; }

  int finish() const {
    for (const auto& [kind, times] : kinds_) {
      std::printf("FAILED %s: %lld times\n", kind.c_str(), times);
    }
    std::printf("%lld comparisons, %lld failed\n", checked_, failed_);
    return failed_ == 0 && checked_ > 0 ? 0 : 1;
  }

 private:
  std::map<std::string, long long> kinds_;
  long long checked_ = 0;
  long long failed_ = 0;
};

}  // namespace gatewave::tests
