// Numbers of one type, in an allocation of exactly their size, so that AddressSanitizer detects
// accesses outside.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>

#include "tests/format.h"

namespace gatewave::tests {

class Column {
 public:
  // The first number follows `offset` unused elements, which reduces its alignment.
  Column(cpu::Type type, std::ptrdiff_t count, std::ptrdiff_t offset = 0)
      : type_(type),
        count_(count),
        offset_(offset),
        bytes_(new std::byte[size(count + offset)]()) {}

  std::ptrdiff_t count() const { return count_; }
  void* data() { return bytes_.get() + size(offset_); }
  const void* data() const { return bytes_.get() + size(offset_); }

  double operator[](std::ptrdiff_t i) const {
    switch (type_) {
      case cpu::Type::float32:
        return get<float>(i);
      case cpu::Type::float64:
        return get<double>(i);
      default:
        return decoded(get<std::uint16_t>(i), format(type_));
    }
  }

  void set(std::ptrdiff_t i, double x) {
    switch (type_) {
      case cpu::Type::float32:
        return put(i, static_cast<float>(nearest(x, format(type_))));
      case cpu::Type::float64:
        return put(i, x);
      default:
        return put(i, encoded(x, format(type_)));
    }
  }

  template <class Pattern>
  void put(std::ptrdiff_t i, Pattern x) {
    std::memcpy(static_cast<std::byte*>(data()) + size(i), &x, sizeof x);
  }

  void set_pattern(std::ptrdiff_t i, std::uint64_t pattern) {
    std::memcpy(static_cast<std::byte*>(data()) + size(i), &pattern, size(1));
  }

  void fill(std::byte with) {
    std::memset(bytes_.get(), static_cast<int>(with), size(offset_ + count_));
  }

  void copy(const Column& from, std::ptrdiff_t from_first, std::ptrdiff_t first,
            std::ptrdiff_t count) {
    if (count == 0) return;
    std::memcpy(static_cast<std::byte*>(data()) + size(first),
                static_cast<const std::byte*>(from.data()) + size(from_first), size(count));
  }

  // Compares bits, except for the payload of a NaN: processors do not define which operand's
  // payload a result has.
  bool is_same(std::ptrdiff_t i, const Column& other, std::ptrdiff_t j) const {
    return std::memcmp(static_cast<const std::byte*>(data()) + size(i),
                       static_cast<const std::byte*>(other.data()) + size(j), size(1)) == 0 ||
           (std::isnan((*this)[i]) && std::isnan(other[j]));
  }

  bool holds_only(std::byte with, std::ptrdiff_t first, std::ptrdiff_t last) const {
    for (std::size_t at = size(offset_ + first); at < size(offset_ + last); ++at) {
      if (bytes_[at] != with) return false;
    }
    return true;
  }

 private:
  std::size_t size(std::ptrdiff_t count) const {
    return static_cast<std::size_t>(count) * format(type_).bytes;
  }

  template <class Number>
  Number get(std::ptrdiff_t i) const {
    Number x;
    std::memcpy(&x, static_cast<const std::byte*>(data()) + size(i), sizeof x);
    return x;
  }

  cpu::Type type_;
  std::ptrdiff_t count_;
  std::ptrdiff_t offset_;
  std::unique_ptr<std::byte[]> bytes_;
};

}  // namespace gatewave::tests
