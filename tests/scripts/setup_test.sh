#!/usr/bin/env bash
# tools/setup against a pretended apt: what it asks for, and when it stops.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

sandbox=$(mktemp -d)
trap 'rm -rf "$sandbox"' EXIT
export FAKE="$sandbox"
mkdir "$sandbox/bin"

# Knows the installed packages from $FAKE/installed.
cat >"$sandbox/bin/dpkg-query" <<'FAKE_DPKG'
#!/usr/bin/env bash
result=0
for package in "${@:4}"; do
  grep -qx "$package" "$FAKE/installed" && echo "installed $package" || result=1
done
exit $result
FAKE_DPKG

# Notes each call in $FAKE/calls. Without $FAKE/updated it knows no package; it would remove
# $FAKE/conflict, and refuses that with --no-remove.
cat >"$sandbox/bin/apt-get" <<'FAKE_APT'
#!/usr/bin/env bash
echo "$*" >>"$FAKE/calls"
case " $* " in
  *" update "*) touch "$FAKE/updated"; exit 0 ;;
esac
[ -e "$FAKE/updated" ] || { echo "E: Unable to locate package" >&2; exit 100; }
case " $* " in
  *" --simulate "*)
    [ ! -e "$FAKE/conflict" ] || echo "Remv $(cat "$FAKE/conflict") [1.74]"
    exit 0 ;;
esac
if [ -e "$FAKE/conflict" ]; then
  case " $* " in *" --no-remove "*) echo "E: remove is disabled" >&2; exit 100 ;; esac
fi
[ ! -e "$FAKE/broken" ] || exit 100
for argument in "$@"; do echo "$argument"; done >>"$FAKE/installed"
FAKE_APT

# Runs a command as it is.
printf '#!/usr/bin/env bash\nexec "$@"\n' >"$sandbox/bin/sudo"
chmod +x "$sandbox"/bin/*
export PATH="$sandbox/bin:$PATH"

failures=0
check() {  # check WHAT CONDITION...
  local what=$1
  shift
  if ! "$@"; then
    echo "FAILED: $what"
    sed 's/^/  output: /' "$sandbox/output"
    sed 's/^/  apt: /' "$sandbox/calls"
    failures=$((failures + 1))
  fi
}
fresh() {
  rm -f "$sandbox"/{installed,calls,updated,conflict,broken}
  touch "$sandbox"/{installed,calls}
}
run() { code=0; tools/setup "$@" >"$sandbox/output" 2>&1 || code=$?; }
called() { grep -q -- "$1" "$sandbox/calls"; }
not_called() { ! called "$1"; }
says() { grep -q -- "$1" "$sandbox/output"; }
exits_with() { [ "$code" -eq "$1" ]; }

fresh
run build
check "a fresh machine gets its package lists and the packages" exits_with 0
check "the lists are updated once" [ "$(grep -c update "$sandbox/calls")" -eq 1 ]
check "nothing may be removed" called "install --no-install-recommends --no-remove"
check "libraries are asked for" called "librocksdb-dev"
check "the build alone needs no test tools" not_called "qemu-utils"

: >"$sandbox/calls"
run build
check "a second run succeeds" exits_with 0
check "a second run does not call apt" [ ! -s "$sandbox/calls" ]

run test
check "the test set asks for what is missing only" exits_with 0
check "the test set installs qemu-utils" called "qemu-utils"
check "what is there is not asked for again" not_called "librocksdb-dev"

fresh
touch "$sandbox/updated"
echo libboost1.74-dev >"$sandbox/conflict"
run build
check "a conflict stops" exits_with 1
check "a conflict is named" says "would be removed: libboost1.74-dev"
check "a conflict tells what to do" says "tools/setup --replace build"
check "a conflict changes nothing" [ ! -s "$sandbox/installed" ]
run --replace build
check "--replace installs" exits_with 0
check "--replace lets apt remove" not_called "--no-remove"

fresh
touch "$sandbox/updated" "$sandbox/broken"
run build
check "a failed installation fails" exits_with 1
check "a failed installation is retried after an update" called update

run wrong
check "an unknown set is wrong usage" exits_with 2

[ "$failures" -eq 0 ] || exit 1
echo "all passed"
