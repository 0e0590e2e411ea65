#!/usr/bin/env bash
# tools/test against pretended cmake and ctest: which parts it runs, and how it ends when one fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

sandbox=$(mktemp -d)
trap 'rm -rf "$sandbox"' EXIT
export FAKE="$sandbox"
mkdir -p "$sandbox/bin" "$sandbox/clone/tools"
cp tools/test "$sandbox/clone/tools/test"

cat >"$sandbox/bin/cmake" <<'FAKE_CMAKE'
#!/usr/bin/env bash
echo "cmake $*" >>"$FAKE/calls"
case "$*" in "--build "*) [ ! -e "$FAKE/build_fails" ] || exit 1 ;; esac
FAKE_CMAKE
# Fails for the preset in $FAKE/failing.
cat >"$sandbox/bin/ctest" <<'FAKE_CTEST'
#!/usr/bin/env bash
echo "ctest $*" >>"$FAKE/calls"
if [ "$(cat "$FAKE/failing" 2>/dev/null)" = "$2" ]; then
  echo "50% tests passed, 1 tests failed out of 2"
  echo "Total Test time of $2"
  exit 8
fi
echo "100% tests passed, 0 tests failed out of 2"
echo "Total Test time of $2"
FAKE_CTEST
chmod +x "$sandbox"/bin/*
export PATH="$sandbox/bin:$PATH"

failures=0
check() {  # check WHAT CONDITION...
  local what=$1
  shift
  if ! "$@"; then
    echo "FAILED: $what"
    sed 's/^/  output: /' "$sandbox/output"
    sed 's/^/  call: /' "$sandbox/calls"
    failures=$((failures + 1))
  fi
}
run() {
  : >"$sandbox/calls"
  code=0
  "$sandbox/clone/tools/test" --no-setup "$@" >"$sandbox/output" 2>&1 || code=$?
}
exits_with() { [ "$code" -eq "$1" ]; }
ends_with() { tail -2 "$sandbox/output" | grep -q -- "$1"; }
called() { grep -q -- "$1" "$sandbox/calls"; }
not_called() { ! called "$1"; }

run
check "all parts pass" exits_with 0
check "asan runs the unit tests and the simulation" called "ctest --preset asan .*-L ^(unit|sim)\\$"
check "release runs everything" not_called "ctest --preset release .*-L"
check "release comes last" ends_with "Total Test time of release"

echo asan >"$sandbox/failing"
run
check "a failure in asan fails the run" exits_with 1
check "release runs all the same" called "ctest --preset release"
check "the summary of the failed part comes last" ends_with "Total Test time of asan"
check "it tells the failure" ends_with "1 tests failed"

echo release >"$sandbox/failing"
run
check "a failure in release fails the run" exits_with 1
check "its summary comes last" ends_with "Total Test time of release"
rm "$sandbox/failing"

touch "$sandbox/build_fails"
run --preset debug
check "a failed build fails the run" exits_with 1
check "a failed build runs no tests" not_called "ctest"
rm "$sandbox/build_fails"

run --preset tsan -R 'base/Crc' -j 3
check "one preset alone" not_called "--preset release"
check "options reach ctest" called "ctest --preset tsan -j 3 -R base/Crc"

run --quick
check "quick is debug and unit tests" called "ctest --preset debug .*-L ^unit\\$"

run --preset nonsense
check "an unknown preset is wrong usage" exits_with 2
run --quick --preset asan
check "quick and a preset are wrong usage" exits_with 2
run -j many
check "a number of jobs that is none is wrong usage" exits_with 2

[ "$failures" -eq 0 ] || exit 1
echo "all passed"
