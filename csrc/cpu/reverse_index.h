// Who refers to whom: the places in a list of numbers at which every number occurs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>

#include "memory.h"
#include "parallel.h"

namespace arta {

// A counting sort, stable in the places. Item i of a group is the place of a number divided by
// `per_item`. Numbers outside 0..groups-1 are left out.
template <class Item>
class ReverseIndex {
 public:
  // `number(i)` is the number at place i of `places`, a multiple of `per_item`. Returns false
  // without memory.
  template <class Number>
  bool build(int64_t places, int64_t per_item, int64_t groups, int64_t threads,
             const Number& number) {
    threads = std::max<int64_t>(1, std::min<int64_t>(threads, 16));
    per_item = std::max<int64_t>(per_item, 1);
    if (groups == std::numeric_limits<int64_t>::max()) return false;
    first = get<int64_t>(groups + 1);
    items = get<Item>(places);
    // Share s counts its own numbers; then the counts become places to write to.
    auto counts = get<int64_t>(product(threads, groups));
    if (!first || !items || !counts) return false;
    const int64_t total = places / per_item;
    // total * s / threads, without its overflow.
    const auto share = [&](int64_t s) {
      return (total / threads * s + total % threads * s / threads) * per_item;
    };
    const auto valid = [&](int64_t n) { return n >= 0 && n < groups; };

    auto count = [&](int64_t, int64_t s) {
      int64_t* own = counts.get() + s * groups;
      std::fill(own, own + groups, 0);
      for (int64_t i = share(s); i < share(s + 1); ++i) {
        const int64_t n = number(i);
        if (valid(n)) ++own[n];
      }
    };
    parallel(threads, threads, count);

    int64_t next = 0;
    for (int64_t g = 0; g < groups; ++g) {
      first[g] = next;
      for (int64_t s = 0; s < threads; ++s) {
        int64_t& place = counts[s * groups + g];
        const int64_t own = place;
        place = next;
        next += own;
      }
    }
    first[groups] = next;

    auto fill = [&](int64_t, int64_t s) {
      int64_t* place = counts.get() + s * groups;
      for (int64_t i = share(s); i < share(s + 1); ++i) {
        const int64_t n = number(i);
        if (valid(n)) items[place[n]++] = static_cast<Item>(i / per_item);
      }
    };
    parallel(threads, threads, fill);
    return true;
  }

  std::unique_ptr<int64_t[]> first;  // (groups + 1,)
  std::unique_ptr<Item[]> items;
};

}  // namespace arta
