#!/usr/bin/env bash
# The Debian package installs into a minimal system with its dependencies, works there, and leaves
# nothing behind when removed. Takes minutes and a mirror: runs where IVON_CHROOT names the mirror of
# Debian, for root, and where debootstrap is installed.
set -euo pipefail
if [ -z "${IVON_CHROOT:-}" ] || [ "$(id -u)" != 0 ] || ! command -v debootstrap > /dev/null; then
  echo "skipped: needs IVON_CHROOT, root and debootstrap"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
cpack --config "$IVON_BUILD/CPackConfig.cmake" -B "$work/package" > "$work/log" 2>&1 \
  || { cat "$work/log"; exit 1; }
debootstrap --variant=minbase "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root" \
  "$IVON_CHROOT" > "$work/log" || { tail "$work/log"; exit 1; }
cp "$work"/package/ivon_*.deb "$root/ivon.deb"
/usr/bin/python3 tests/oracle/linear_regression.py make "$root/data" orthogonal
cat > "$root/test.sh" << 'TEST'
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
trap 'echo "failed: $BASH_COMMAND"' ERR
apt-get install -y -qq --no-install-recommends man-db bash-completion /ivon.deb > /log 2>&1 \
  || { tail /log; exit 1; }
ivon info --check /data/base.h5
ivon-merge --base=/data/base.h5 /data/part-1.h5 /data/part-2.h5 -o /data/merged.h5
ivon info /data/merged.h5
for page in ivon ivon-merge libivon ivon-posterior; do man -w "$page"; done
man ivon-merge > /page
grep -q 'gradient-matching' /page
apropos posterior > /page
grep -q '^ivon-merge (1)' /page
bash -c '. /usr/share/bash-completion/bash_completion
  for name in ivon ivon-merge; do _completion_loader $name || true; complete -p $name; done'
ldconfig -p > /page
grep -q 'libivon\.so\.1' /page
python3 -c 'import importlib.util as u; assert u.find_spec("ivon_posterior")'
ls /usr/lib/python3/dist-packages/ivon_posterior/__pycache__ > /page
grep -q _posterior /page
apt-get purge -y -qq ivon > /log 2>&1 || { tail /log; exit 1; }
left=$(find /usr /etc /var/cache/ldconfig -name '*ivon*')
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
echo "installed, used, and removed without a trace"
TEST
chroot "$root" bash /test.sh
