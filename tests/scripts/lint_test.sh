#!/usr/bin/env bash
# tools/lint finds what it is there for, and lets pass what looks alike.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
command -v clang-format-19 >/dev/null || { echo "clang-format-19 is not installed"; exit 77; }

sandbox=$(mktemp -d)
trap 'rm -rf "$sandbox"' EXIT
mkdir -p "$sandbox"/{tools,storage/runtime,storage/log,tests/sim}
cp tools/lint "$sandbox/tools/"
cp .clang-format "$sandbox/"
git -C "$sandbox" init -q
echo '#pragma once' >"$sandbox/storage/log/entry.h"
echo '#pragma once' >"$sandbox/storage/runtime/task.h"
echo '#pragma once' >"$sandbox/tests/sim/disk.h"

failures=0
probes=()
wanted=()
# expect FOUND CODE   makes a file of CODE, about which lint has to say FOUND and nothing else; or
# "nothing" at all.
expect() {
  local name="storage/runtime/probe_${#probes[@]}.cc"
  printf '%s\n' "$2" >"$sandbox/$name"
  probes+=("$name")
  wanted+=("$1")
}
cd "$sandbox"

unsafe='co_await may only be'
expect "$unsafe" 'void F() { if (co_await G()) Stop(); }'
expect "$unsafe" 'void F() { for (auto x = co_await G(); x;) Stop(); }'
expect "$unsafe" 'void F() { TF_RETURN_IF_ERROR(co_await G()); }'
expect "$unsafe" 'void F() { TF_CO_ASSIGN_OR_RETURN(auto a, co_await G()); }'
expect "$unsafe" 'void F() { EXPECT_TRUE((co_await G()).ok()); }'
expect "$unsafe" 'void F() { int y = 1 + co_await G(); }'
expect "$unsafe" 'void F() { Call(1, co_await G()); }'
expect "$unsafe" 'void F() { int q = c ? co_await G() : 1; }'
expect nothing 'void F() { int z = co_await G(); }'
expect nothing 'void F() { const auto [a, b] = co_await G(H(1)); }'
expect nothing 'void F() { if (x) co_await G(); else co_return co_await G(); }'
expect nothing 'void F() { for (int i = 0; i < 3; ++i) total = co_await G(); }'
expect nothing 'void F() { (void)co_await G(); }'
expect nothing 'const char* text = "if (co_await G())";  // if (co_await G())'
expect nothing 'const int big = 1'"'"'000'"'"'000; void F() { co_await G(); }'
expect 'lambda with captures' 'auto l = [&x](int y) -> Task<void> { return H(y); };'
expect nothing 'auto l = [](int y) -> Task<void> { return H(y); };'

expect 'storage/runtime lies below storage/log' '#include "storage/log/entry.h"'
expect 'the product must not depend on it' '#include "tests/sim/disk.h"'
expect 'write our own paths from the root' '#include "task.h"'
expect 'which only storage/map may' '#include <rocksdb/db.h>'
expect nothing '#include "storage/runtime/task.h"'

expect 'makes a thread' 'void F() { std::thread t(G); }'
expect 'makes a clock' 'auto now = std::chrono::steady_clock::now();'
expect 'makes a clock' 'auto now = time(nullptr);'
expect 'makes a sleep' 'void F() { usleep(3); }'
expect 'makes chance' 'int x = rand();'
expect nothing 'uint64_t x = prng.rand(); uint64_t y = poller->time(0); Prng& random();'
expect 'marked as unfinished' '// TODO: more'

# All of them in one run: it is the start of the tools that takes time.
clang-format-19 -i "${probes[@]}"
tools/lint "${probes[@]}" >output 2>&1 || true
for i in "${!probes[@]}"; do
  said=$(grep "^${probes[$i]}:" output || true)
  good=yes
  if [ "${wanted[$i]}" = nothing ]; then
    [ -z "$said" ] || good=no
  else
    [ "$(grep -c . <<<"$said")" -eq 1 ] && grep -qF -- "${wanted[$i]}" <<<"$said" || good=no
  fi
  if [ "$good" = no ]; then
    printf 'FAILED: wanted "%s", got "%s" of:\n' "${wanted[$i]}" "$said"
    cat "${probes[$i]}"
    failures=$((failures + 1))
  fi
done
grep -q "${#probes[@]} files" output || { echo "FAILED: not all were looked at"; failures=1; }

printf '#pragma once\nint   x;\n' >storage/runtime/probe.h
"$sandbox/tools/lint" storage/runtime/probe.h >output 2>&1 && { echo "FAILED: form"; failures=1; }
grep -q 'is not formatted' output || { echo "FAILED: form is not named"; failures=1; }
"$sandbox/tools/lint" --fix storage/runtime/probe.h >output 2>&1 || { echo "FAILED: --fix"; failures=1; }
printf 'int x;\n' >storage/runtime/probe.h
"$sandbox/tools/lint" storage/runtime/probe.h >output 2>&1 && { echo "FAILED: pragma"; failures=1; }
grep -q 'without #pragma once' output || { echo "FAILED: pragma is not named"; failures=1; }

[ "$failures" -eq 0 ] || exit 1
echo "all passed"
