#!/usr/bin/env bash
# The base layer: a Debian root file system with Python, in a new folder: `rootfs.sh OUT`.
#
# Packages are unpacked, not installed (variant "extract"): no maintainer script runs, so no package manager and no perl is
# needed inside, and the result is the same each time. What the scripts would have made and the product needs is made below.
# Busybox is the shell for whoever looks into a running container.
set -euo pipefail
out=$1
release=bookworm
packages=python3,ca-certificates,iptables,iproute2,util-linux,busybox,libc-bin,base-files,netbase

# The machine's own package sources where they have this release: it may reach its archive only through a mirror.
sources=/etc/apt/sources.list.d/debian.sources
grep -qs "^Suites:.*$release" "$sources" || sources=
# Nothing is installed, so dpkg writes no record: what each package is and has is kept beside, for `known` below.
keep='mkdir "$1/packages" && for deb in "$1"/var/cache/apt/archives/*.deb; do
  name=$(dpkg-deb --field "$deb" Package)
  dpkg-deb --field "$deb" >"$1/packages/$name"
  dpkg-deb --fsys-tarfile "$deb" | tar --list >"$1/packages/$name.list"
done'
SOURCE_DATE_EPOCH=1700000000 mmdebstrap --quiet --variant=extract --format=directory --extract-hook="$keep" --include="$packages" \
  $release "$out" $sources
cd "$out"
python=usr/lib/python3.11
mkdir -p usr/local/bin usr/local/lib/python3.11/dist-packages proc sys dev run tmp root var etc/ssl/certs
chmod 1777 tmp
ln -sfn ../run var/run

# Merge /usr: packages of this release still carry both forms.
for dir in bin sbin lib lib64; do
  if [ -d "$dir" ] && [ ! -L "$dir" ]; then
    mkdir -p "usr/$dir"
    cp -a "$dir/." "usr/$dir/"
    rm -rf "$dir"
  fi
  mkdir -p "usr/$dir"
  ln -sfn "usr/$dir" "$dir"
done

# Nobody packages, reads manuals or runs Debian's own tools here; nsenter alone is wanted of util-linux.
mv usr/bin/nsenter usr/nsenter.keep
mv usr/share/ca-certificates usr/ca-certificates.keep
mv usr/share/doc usr/doc.keep
rm -rf usr/share/* usr/src usr/include usr/games usr/libexec usr/lib/dpkg usr/lib/*/perl* usr/lib/*/gconv usr/lib/systemd \
  usr/lib/python3 usr/lib/udev usr/lib/tc usr/lib/locale usr/lib/valgrind usr/lib/mime var/lib/* var/cache var/log etc/apt etc/dpkg \
  etc/cron* etc/init.d etc/pam.d etc/security etc/selinux etc/logrotate.d etc/alternatives etc/default etc/update-motd.d etc/issue* \
  etc/rmt etc/debconf.conf boot media mnt srv opt
for dir in test lib2to3 idlelib tkinter turtledemo pydoc_data ensurepip distutils; do rm -rf "$python/$dir"; done
rm -rf "$python"/config-3.11-*
mkdir -p var/log var/lib var/cache opt
find usr/bin usr/sbin \( -type f -o -type l \) ! -name 'python3*' ! -name 'busybox' ! -name 'ip' ! -name 'ss' ! -name 'bridge' \
  ! -name 'ip*tables*' ! -name 'xtables*' ! -name 'ldconfig' -delete
mv usr/nsenter.keep usr/bin/nsenter

# Of each package that something is left of: its record, where scanners for vulnerabilities look in images without a package
# manager, and its copyright, which has to go with its files.
mkdir -p var/lib/dpkg/status.d usr/share/doc
for list in packages/*.list; do
  name=$(basename "$list" .list)
  while read -r path; do
    case $path in */ | ./usr/share/doc/*) continue ;; esac
    if [ -e "$path" ] || [ -L "$path" ] || [ "$name" = ca-certificates ]; then
      mv "packages/$name" var/lib/dpkg/status.d/
      mkdir -p "usr/share/doc/$name"
      cp -L "usr/doc.keep/$name/copyright" "usr/share/doc/$name/copyright"
      break
    fi
  done <"$list"
done
rm -rf packages usr/doc.keep

# What the maintainer scripts would have made.
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n' >etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' >etc/group
cat usr/ca-certificates.keep/mozilla/*.crt >etc/ssl/certs/ca-certificates.crt
rm -rf usr/ca-certificates.keep
ln -sfn /etc/ssl/certs/ca-certificates.crt usr/lib/ssl/cert.pem
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
  ln -sfn xtables-nft-multi "usr/sbin/$name"
done
for applet in $(chroot . /bin/busybox --list); do
  [ -e "usr/bin/$applet" ] || [ -e "usr/sbin/$applet" ] || ln -s busybox "usr/bin/$applet"
done
chroot . /sbin/ldconfig
rm -rf var/cache/ldconfig # it has inodes and times of this disk, and only makes the next ldconfig faster
chroot . /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3.11
chroot . /usr/bin/python3 -c 'import asyncio, ssl, json, ctypes, ipaddress, zoneinfo; ssl.create_default_context()'
