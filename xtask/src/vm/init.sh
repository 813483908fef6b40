#!/bin/busybox sh
# The machine's first program: the host's files, read-only, below a layer in memory become the root.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
. /settings
for module in $MODULES; do
    $b modprobe "$module" 2>/dev/null || [ -d "/sys/module/$module" ] || echo "vm: no module $module"
done
files=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o "ro,cache=loose,$files" host /host || echo "vm: cannot mount the host's files"
$b mount -t tmpfs -o size=75% memory /memory
$b mkdir /memory/upper /memory/work
$b mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /top ||
    echo "vm: cannot mount the root"
for directory in dev proc sys; do
    $b mount --move "/$directory" "/top/$directory"
done
$b mount -t tmpfs run /top/run
$b mkdir -p /top/run/vm/shared
$b mount -t 9p -o "rw,cache=none,$files" shared /top/run/vm/shared || echo "vm: nowhere to report to"
$b cp /settings /begin.sh /top/run/vm/
exec $b switch_root /top /bin/sh /run/vm/begin.sh
